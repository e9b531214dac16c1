/** The front door: {@link Univi}, its conversations and their answers. */
import { UniviError } from "./error.js";
import { type AskProgress, encode, type Part } from "./parts.js";
import { type CacheChoice, Client, type Device, type Handle, type LoadProgress, type MemoryUsage, type ModelInfo, type ModelSource } from "./protocol.js";
import type { SamplingOptions, Seen, SessionOptions, Usage } from "./protocol.js";

/** What {@link Univi.create} needs to know. */
export interface UniviOptions {
  /**
   * The model: the URL of its `manifest.json` or of one `.gguf` file, or the files themselves as a file or folder
   * picker gives them. A relative URL is meant from the page.
   */
  readonly model: string | URL | readonly File[] | FileSystemDirectoryHandle;
  /** What computes; `"auto"` by default. */
  readonly device?: Device;
  /** Where the model's files are kept for the next visit; `"auto"` by default, `"none"` keeps nothing. */
  readonly cache?: CacheChoice;
  /** Tokens that a conversation may hold; the checkpoint's own length by default. Less needs less memory. */
  readonly contextLength?: number;
  /** Reads a sample of the weights back from the device and compares it: for a GPU or driver that nobody has tried yet. */
  readonly verifyUpload?: boolean;
  /** Hears how far loading has come, a few times per second. */
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Stops loading: nothing of it remains. */
  readonly signal?: AbortSignal;
}

/** How one question is answered. */
export interface AskOptions extends SamplingOptions {
  /** Stops the answer. What was said so far stays part of the conversation. */
  readonly signal?: AbortSignal;
  /** Hears how far decoding and encoding of the visual parts have come. */
  readonly onProgress?: (progress: AskProgress) => void;
}

/**
 * A model that is loaded and can be asked. It runs in a worker of its own, so the page stays responsive.
 *
 * @example
 * ```ts
 * const univi = await Univi.create({ model: "/models/demo/manifest.json" });
 * for await (const piece of univi.ask([photo, "What is on the table?"])) out.append(piece);
 * univi.dispose();
 * ```
 */
export class Univi {
  /** What was loaded, and what it runs on. */
  readonly info: ModelInfo;
  readonly #client: Client;
  readonly #worker: Worker;

  private constructor(info: ModelInfo, client: Client, worker: Worker) {
    this.info = info;
    this.#client = client;
    this.#worker = worker;
  }

  /**
   * Loads a model.
   *
   * Rejects with a {@link UniviError}, or with the reason of an aborted `signal`; the device and all memory are then free
   * again.
   */
  static async create(options: UniviOptions): Promise<Univi> {
    const { device = "auto", cache = "auto", contextLength, onProgress, signal } = options;
    signal?.throwIfAborted();
    const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    const client = new Client(worker);
    worker.onerror = (event) => {
      client.break(new UniviError("internal", `the worker failed: ${event.message || "it could not be started"}`));
    };
    try {
      const params = {
        source: await modelSource(options.model),
        device,
        cache,
        verifyUpload: options.verifyUpload ?? false,
        ...(contextLength === undefined ? {} : { contextLength }),
      };
      const info = await client.call("load", params, { signal, onEvent: onProgress });
      return new Univi(info, client, worker);
    } catch (error) {
      worker.terminate();
      throw error;
    }
  }

  /** Asks one question, in a conversation of its own. Nothing happens until the answer is read. */
  ask(parts: string | readonly Part[], options: AskOptions = {}): Answer {
    const session = this.session();
    return new Answer(async function* (answer) {
      try {
        yield* turn(answer, session, parts, options);
      } finally {
        session.dispose();
      }
    });
  }

  /** Begins a conversation. */
  session(options: SessionOptions = {}): Session {
    return new Session(this.#client, options);
  }

  /** What the model takes of the machine's memory, besides the GPU's. */
  memory(): Promise<MemoryUsage> {
    return this.#client.call("memory", {});
  }

  /** Frees the model, the device and the worker. Answers under way reject. May be called again. */
  dispose(): void {
    this.#client.break(new UniviError("bad-request", "this model was disposed of; create it again"));
    this.#worker.terminate();
  }
}

/** A conversation: several turns, with images and clips at any of them. Made by {@link Univi.session}. */
export class Session {
  /** @internal */
  readonly client: Client;
  readonly #options: SessionOptions;
  #opened: Promise<Handle> | undefined;

  /** @internal */
  constructor(client: Client, options: SessionOptions) {
    this.client = client;
    this.#options = options;
  }

  /** Puts the next question. Nothing happens until the answer is read. */
  ask(parts: string | readonly Part[], options: AskOptions = {}): Answer {
    return new Answer((answer) => turn(answer, this, parts, options));
  }

  /** Frees what the conversation holds on the device. May be called again. */
  dispose(): void {
    this.#opened?.then((session) => free(this.client, [session])).catch(() => {}); // An unopened one holds nothing.
    this.#opened = Promise.reject(new UniviError("bad-request", "this conversation was disposed of; begin a new one"));
    this.#opened.catch(() => {});
  }

  /** @internal Opens it at the other end, the first time. */
  opened(): Promise<Handle> {
    this.#opened ??= this.#open();
    return this.#opened;
  }

  async #open(): Promise<Handle> {
    const session = this.client.newHandle();
    await this.client.call("openSession", { session, options: this.#options });
    return session;
  }
}

/**
 * An answer, piece by piece, for one reader.
 *
 * Leaving the loop early stops the model; so does the question's `signal`, whose reason is then thrown.
 */
export class Answer implements AsyncIterable<string> {
  /** What the model saw of each visual part, in order; filled as they are encoded, complete before the first piece. */
  readonly seen: Seen[] = [];
  /** What the answer cost, once it has ended. */
  usage: Usage | undefined;
  readonly #pieces: AsyncGenerator<string, void>;

  /** @internal */
  constructor(pieces: (answer: Answer) => AsyncGenerator<string, void>) {
    this.#pieces = pieces(this);
  }

  [Symbol.asyncIterator](): AsyncGenerator<string, void> {
    return this.#pieces;
  }

  /** The whole answer. */
  async text(): Promise<string> {
    let text = "";
    for await (const piece of this) text += piece;
    return text;
  }
}

async function* turn(
  answer: Answer,
  session: Session,
  parts: string | readonly Part[],
  options: AskOptions,
): AsyncGenerator<string, void> {
  const { signal: callers, onProgress, ...sampling } = options;
  const { client } = session;
  const left = new AbortController(); // The reader has left, or something failed.
  const signal = callers ? AbortSignal.any([callers, left.signal]) : left.signal;
  const visuals: Handle[] = [];
  try {
    const handle = await session.opened();
    const list = typeof parts === "string" ? [parts] : parts;
    const total = list.filter((part) => typeof part !== "string").length;
    const sent: (string | { visual: Handle })[] = [];
    for (const part of list) {
      if (typeof part === "string") {
        sent.push(part);
        continue;
      }
      const visual = client.newHandle();
      visuals.push(visual);
      const onFrame = (loaded: number, frames: number) => onProgress?.({ phase: "frames", loaded, total: frames });
      const onEncode = () => onProgress?.({ phase: "encode", loaded: visuals.length - 1, total });
      answer.seen.push(await encode(client, visual, part, signal, onFrame, onEncode));
      sent.push({ visual });
    }
    onProgress?.({ phase: "answer", loaded: total, total });

    const arrived: string[] = [];
    let wake = () => {};
    let ended = false;
    const usage = client.call("answer", { session: handle, parts: sent, options: sampling }, {
      signal,
      onEvent: (piece) => {
        arrived.push(piece);
        wake();
      },
    }).finally(() => {
      ended = true;
      wake();
    });
    usage.catch(() => {}); // Awaited below, unless the reader leaves.
    for (;;) {
      while (arrived.length > 0) yield arrived.shift()!;
      if (ended) break;
      await new Promise<void>((resolve) => (wake = resolve));
    }
    answer.usage = await usage;
  } finally {
    left.abort();
    free(client, visuals);
  }
}

function free(client: Client, handles: readonly Handle[]): void {
  if (handles.length > 0) client.call("free", { handles }).catch(() => {}); // A broken client has freed everything.
}

async function modelSource(model: UniviOptions["model"]): Promise<ModelSource> {
  if (typeof model === "string" || model instanceof URL) return { kind: "url", url: new URL(model, document.baseURI).href };
  if ("kind" in model) return { kind: "files", files: await filesOf(model) };
  return { kind: "files", files: [...model] };
}

/** The files of a folder that was picked; nothing of them is read yet. */
async function filesOf(folder: FileSystemDirectoryHandle): Promise<File[]> {
  const files: File[] = [];
  try {
    for await (const entry of folder.values()) {
      if (entry.kind === "file") files.push(await (entry as FileSystemFileHandle).getFile());
    }
  } catch (cause) {
    throw new UniviError("io", `${folder.name}: the folder can't be read: ${(cause as Error).message}`, { cause });
  }
  return files;
}
