/** The front door: {@link Univi}, its conversations and their answers. */
import type { StreamedAnswer } from "./answer.js";
import type { Calls, ModelSource, ResolveRequest } from "./calls.js";
import { Completions } from "./completions.js";
import type { ConversionPlan, PlannedFile } from "./conversion/calls.js";
import { asyncDispose, dispose } from "./dispose.js";
import { UniviError } from "./error.js";
import { isHubAddress } from "./hub/address.js";
import { convertHubModel, findHubModel, type HubChoice, planHubModel } from "./hub/source.js";
import { Live, type WatchOptions } from "./live.js";
import { openPart } from "./media.js";
import {
  boolean,
  callback,
  type Checks,
  copyOptions,
  isIterable,
  number,
  oneOf,
  signal,
  string,
  wrong,
} from "./options.js";
import {
  type ClipPart,
  type Part,
  prepareClip,
  type PreparedPart,
  prepareParts,
  VISUAL,
  type VisualOptions,
} from "./parts.js";
import { answerTo, type AskOptions } from "./question.js";
import { Client, type Host, type Port, serve } from "./rpc.js";
import { runtime } from "./runtime.js";
import { type ConversationOptions, Session } from "./session.js";
import { startWorker } from "./start-worker.js";
import { TokenMaps } from "./token-maps.js";
import type {
  Availability,
  CacheChoice,
  ClipMeasure,
  Conversion,
  Device,
  KvCache,
  LoadProgress,
  MemoryUsage,
  ModelInfo,
  TokenMap,
} from "./types.js";
import { PartUploader } from "./uploader.js";

/** A model on a server that has addresses of its own for a model's files. */
export interface RemoteModel {
  /** The URL of its `manifest.json`, or of one `.gguf` file. */
  readonly url: string | URL;
  /**
   * Returns the address of a file, by its path in the manifest: a signed one, or that of a store by
   * content. Without it, files lie beside the manifest, and a query of the manifest's URL goes
   * along.
   */
  readonly resolve?: (name: string) => string | URL | Promise<string | URL>;
}

/** Options of {@link Univi.create}. */
export interface UniviOptions {
  /**
   * The model: the URL of its `manifest.json` or of one `.gguf` file, or the files themselves as a
   * file or folder picker gives them. A relative URL is meant from the page. In Node, Deno and Bun
   * also a path, or the URL of a file.
   *
   * `hf:OWNER/NAME` names a repository of the Hugging Face Hub, `hf:OWNER/NAME@REVISION` a branch,
   * tag or commit of it, and `/FILE` behind either one of its files. A repository with a
   * `manifest.json` is loaded. A checkpoint as it is published is converted in this browser, into
   * its private storage, which fetches all of it; {@link Univi.availability} says how much that is.
   */
  readonly model: string | URL | RemoteModel | readonly File[] | FileSystemDirectoryHandle;
  /**
   * How the language model of a checkpoint that is converted is stored: `"q4_k_m"` by default, or
   * any other type that `univi convert` knows, such as `"iq4_xs"`, `"q3_k_m"` or `"q8_0"`. A model
   * that is converted already is loaded as it is: beside one this is refused.
   */
  readonly quantization?: string;
  /** Another Hub than https://huggingface.co, such as a mirror. */
  readonly hubEndpoint?: string | URL;
  /**
   * An access token, for repositories of the Hub that are gated or private. It is sent to the Hub
   * alone. Whoever opens the page can read it: never build one into a page.
   */
  readonly token?: string;
  /** What computes; `"auto"` by default. */
  readonly device?: Device;
  /**
   * Where the model's files are kept for the next visit; `"auto"` by default, `"none"` keeps
   * nothing.
   */
  readonly cache?: CacheChoice;
  /**
   * Tokens that a conversation may hold; by default the checkpoint's own length, up to 4,096. A
   * conversation takes memory as it grows, for a 7B model 1 MiB a token; before loading, the device
   * is asked for the room that one of full length needs.
   */
  readonly contextLength?: number;
  /**
   * How conversations keep keys and values: `"f32"`, the default, as they are computed; `"q8"` in
   * bytes, which takes 9/32 of the memory and may now and then choose another word.
   */
  readonly kvCache?: KvCache;
  /**
   * Whether the model runs in a worker of its own, which keeps the page responsive: the default
   * where there are workers. Without it, it runs where it is created, such as in a worker that you
   * have already.
   */
  readonly worker?: boolean;
  /**
   * Reads a sample of the weights back from the device and compares it: for a GPU or driver that
   * nobody has tried yet.
   */
  readonly verifyUpload?: boolean;
  /**
   * The only origins that models and pictures are fetched from, such as `[location.origin]`: for a
   * page whose addresses come from its visitors. A request anywhere else is refused before it is
   * sent, and so is what a server sends on to another address. By default any address that you give
   * is fetched, and followed. A model on the Hub needs the Hub's origin here; where the Hub sends
   * on to its own storage, it is followed. Clips by URL are fetched by the page itself, which its
   * content security policy binds.
   */
  readonly allowedOrigins?: readonly (string | URL)[];
  /**
   * In Node, Deno and Bun the folder whose files chat messages may name by `file:` URL; by default
   * they may name none. What {@link Univi.ask} is given is not restricted.
   */
  readonly messageFiles?: string | URL;
  /** Hears how far loading has come, a few times per second. */
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Stops loading: nothing of it remains. */
  readonly signal?: AbortSignal;
}

/**
 * Options of {@link Univi.create} for a model on a server, which `univi serve --model` or any other
 * that speaks OpenAI's protocol answers for.
 *
 * Everything that is shown and said goes to that server: a page should say so. It is asked only
 * where this option names it.
 */
export interface RemoteOptions {
  /**
   * The server's address: `http://127.0.0.1:8000` stands for `http://127.0.0.1:8000/v1/`; one with
   * a path is taken as it is.
   */
  readonly remote: string | URL;
  /** What the server calls the model; its first one by default. */
  readonly model?: string;
  /** The server's API key. Whoever opens the page can read it: never build one into a page. */
  readonly apiKey?: string;
  /** As {@link UniviOptions.allowedOrigins}; the server's own has to be among them. */
  readonly allowedOrigins?: readonly (string | URL)[];
  /** As {@link UniviOptions.messageFiles}. */
  readonly messageFiles?: string | URL;
  /** Stops asking whether the server is there. */
  readonly signal?: AbortSignal;
}

/** Options of {@link Univi.availability}. */
export type AvailabilityOptions = Pick<
  UniviOptions,
  | "model"
  | "quantization"
  | "hubEndpoint"
  | "token"
  | "device"
  | "contextLength"
  | "kvCache"
  | "worker"
  | "allowedOrigins"
  | "signal"
>;

/** Devices and types are checked by the module, which knows them. */
const AVAILABILITY: Checks<AvailabilityOptions> = {
  model: (model) => model as UniviOptions["model"],
  quantization: string,
  hubEndpoint: (url, name) => (url instanceof URL ? url : string(url, name)),
  token: string,
  device: (device, name) => string(device, name) as Device,
  contextLength: number,
  kvCache: (type, name) => string(type, name) as KvCache,
  worker: boolean,
  allowedOrigins: (origins, name) => {
    if (typeof origins === "string" || !isIterable(origins))
      throw wrong(name, "a list of origins", origins);
    return [...origins] as (string | URL)[];
  },
  signal,
};

const MEASURE: Checks<Pick<VisualOptions, "visualTokens" | "signal">> = {
  visualTokens: VISUAL.visualTokens,
  signal,
};

const CREATE: Checks<UniviOptions> = {
  ...AVAILABILITY,
  cache: oneOf("auto", "opfs", "cache-api", "none"),
  verifyUpload: boolean,
  messageFiles: (folder, name) => (folder instanceof URL ? folder : string(folder, name)),
  onProgress: callback<(progress: LoadProgress) => void>(),
};

const REMOTE: Checks<RemoteOptions> = {
  remote: (url, name) => (url instanceof URL ? url : string(url, name)),
  model: string,
  apiKey: string,
  allowedOrigins: AVAILABILITY.allowedOrigins,
  messageFiles: CREATE.messageFiles,
  signal,
};

/**
 * A model that is loaded and can be asked. It runs in a worker of its own, so the page stays
 * responsive.
 *
 * @example
 * ```ts
 * const univi = await Univi.create({ model: "/models/demo/manifest.json" });
 * for await (const piece of univi.ask([photo, "What is on the table?"])) out.append(piece);
 * univi.dispose();
 * ```
 */
export class Univi implements Disposable, AsyncDisposable {
  /** The model that was loaded, and the device that it runs on. */
  readonly info: ModelInfo;
  /** The same in OpenAI's terms: `univi.chat.completions.create({ messages })`. */
  readonly chat: { readonly completions: Completions };
  readonly #client: Client;
  readonly #end: () => void;

  private constructor(
    info: ModelInfo,
    client: Client,
    messageFiles: string | URL | undefined,
    end: () => void,
  ) {
    this.info = info;
    this.chat = { completions: new Completions(client, info, messageFiles) };
    this.#client = client;
    this.#end = end;
  }

  /**
   * Returns whether a model can be loaded here, before anything but its manifest is fetched: the
   * adapter, and the memory that weights and conversation need, are asked for.
   *
   * @example
   * ```ts
   * const model = "/models/demo/manifest.json";
   * const { status, reason, bytes = 0, cachedBytes = 0 } = await Univi.availability({ model });
   * if (status === "unavailable") note.textContent = reason ?? "";
   * else button.textContent = `Download ${Math.round((bytes - cachedBytes) / 1e6)} MB`;
   * ```
   */
  static async availability(options: AvailabilityOptions): Promise<Availability> {
    const given = copyOptions<AvailabilityOptions>(options, AVAILABILITY, "Univi.availability");
    const { device = "auto", signal } = given;
    signal?.throwIfAborted();
    const { client, end } = (given.worker ?? runtime.worker) ? inWorker() : await withoutWorker();
    try {
      const limits = limitsOf(given);
      const onEvent = resolver(client, given.model);
      const found = (source: ModelSource) =>
        client.call("availability", { source, device, ...limits }, { signal, onEvent });
      if (!isHubAddress(given.model)) return await found(await sourceElsewhere(given));
      return await hubAvailability(client, given.model, hubChoice(given, limits), found);
    } finally {
      end();
    }
  }

  /**
   * Loads a model.
   *
   * Rejects with a {@link UniviError}, or with the reason of an aborted `signal`; the device and
   * all memory are then free again.
   *
   * With `remote` nothing is loaded: a server answers. Conversations, answers and completions are
   * the same; what its protocol does not carry, such as token maps, is refused with `bad-request`.
   */
  static async create(options: UniviOptions | RemoteOptions): Promise<Univi> {
    if (isRemote(options)) return createRemote(options, (...parts) => new Univi(...parts));
    const given = copyOptions<UniviOptions>(options, CREATE, "Univi.create");
    const { device = "auto", cache = "auto", onProgress, signal } = given;
    signal?.throwIfAborted();
    const { client, end } = (given.worker ?? runtime.worker) ? inWorker() : await withoutWorker();
    try {
      const limits = limitsOf(given);
      const source = isHubAddress(given.model)
        ? await hubSource(client, given.model, hubChoice(given, limits), onProgress)
        : await sourceElsewhere(given);
      const verifyUpload = given.verifyUpload ?? false;
      const params = { source, device, cache, verifyUpload, ...limits };
      const resolve = resolver(client, given.model);
      const onEvent = (event: LoadProgress | ResolveRequest) =>
        "resolve" in event ? resolve(event) : onProgress?.(event);
      const info = await client.call("load", params, { signal, onEvent });
      return new Univi(info, client, given.messageFiles, end);
    } catch (error) {
      end();
      throw error;
    }
  }

  /** Asks one question, in a conversation of its own. Nothing starts until the answer is read. */
  ask(parts: string | Iterable<Part>, options: AskOptions = {}): StreamedAnswer {
    return answerTo(this.#client, parts, options, async (question, sink) => {
      const session = this.session();
      try {
        return await session.answer(question, sink);
      } finally {
        session.dispose();
      }
    });
  }

  /** Begins a conversation. */
  session(options: ConversationOptions = {}): Session {
    return new Session(this.#client, options, { used: 0, capacity: this.info.contextLength });
  }

  /**
   * Watches a camera or a playing video, so that its last seconds can be asked about.
   *
   * @example
   * ```ts
   * const camera = await navigator.mediaDevices.getUserMedia({ video: true });
   * const live = univi.watch(camera, { framesPerSecond: 1, windowSeconds: 60 });
   * for await (const piece of live.ask("What did I just put on the table?")) out.append(piece);
   * ```
   */
  watch(source: MediaStream | HTMLVideoElement, options: WatchOptions = {}): Live {
    return new Live(this.#client, source, options);
  }

  /**
   * Encodes a picture or a clip and returns what the model saw of it, without a question.
   *
   * @throws UniviError `bad-request` where the part is text, or where it can't be merged to so many
   * `visualTokens`; `bad-image` or `bad-video` where it can't be read.
   */
  async tokenMap(part: Part, options: VisualOptions = {}): Promise<TokenMap> {
    const prepared = prepareParts([part]);
    const visual = copyOptions<VisualOptions>(options, VISUAL, "tokenMap");
    if (prepared.length !== 1 || prepared[0]!.kind === "text")
      throw wrong("part", "one picture or clip", part);
    const tokenMaps = new TokenMaps(this.#client);
    const uploader = new PartUploader(this.#client, visual, { tokenMaps, warn: () => {} });
    try {
      await uploader.upload(prepared);
      return (await tokenMaps.fetch())[0]!;
    } finally {
      uploader.free();
      tokenMaps.free();
    }
  }

  /**
   * Returns which frames of a clip would be encoded, and about how many tokens the language model
   * would read for them, without decoding them.
   *
   * @example
   * ```ts
   * const { timesSeconds, tokens } = await univi.measureClip({ video: file, endSeconds: 10 });
   * note.textContent = `${timesSeconds.length} frames, about ${tokens} tokens`;
   * ```
   *
   * @throws UniviError `bad-request` for an animated GIF or WebP, whose frames are found as it is
   * decoded; `bad-video` where the clip can't be read.
   */
  async measureClip(
    clip: ClipPart,
    options: Pick<VisualOptions, "visualTokens" | "signal"> = {},
  ): Promise<ClipMeasure> {
    const visual = copyOptions(options, MEASURE, "measureClip");
    const prepared = prepareClip(clip) as Extract<PreparedPart, { kind: "clip" }>;
    const opened = await openPart(this.#client, prepared, visual.signal);
    if (opened.kind !== "clip") throw wrong("clip", "a clip", clip);
    const { measureClip } = await import("./clip.js");
    return measureClip(this.#client, opened.source, opened.choice, visual);
  }

  /** Returns the memory that the model takes. */
  memory(): Promise<MemoryUsage> {
    return this.#client.call("memory", {});
  }

  /** Frees the model, the device and the worker. Answers under way reject. May be called again. */
  dispose(): void {
    this.#client.break(
      new UniviError("bad-request", "this model was disposed of; create it again"),
    );
    this.#end();
  }

  /** As {@link Univi.dispose}. */
  [dispose](): void {
    this.dispose();
  }

  /** As {@link Univi.dispose}. */
  async [asyncDispose](): Promise<void> {
    this.dispose();
  }
}

/** What both calls about a model take over as it is. */
function limitsOf({
  contextLength,
  kvCache,
  allowedOrigins,
}: Pick<UniviOptions, "contextLength" | "kvCache" | "allowedOrigins">) {
  return {
    ...(contextLength === undefined ? {} : { contextLength }),
    ...(kvCache === undefined ? {} : { kvCache }),
    ...(allowedOrigins === undefined ? {} : { allowedOrigins: allowedOrigins.map(originOf) }),
  };
}

function originOf(origin: string | URL): string {
  try {
    return new URL(origin).origin;
  } catch (cause) {
    const why = `allowedOrigins has "${origin}", expected origins such as https://example.org`;
    throw new UniviError("bad-request", why, { cause });
  }
}

/** Answers where the worker asks for the address of a file. */
function resolver(client: Client, model: UniviOptions["model"]) {
  const resolve = isRemoteModel(model) ? model.resolve : undefined;
  return ({ request, resolve: name }: ResolveRequest): void => {
    const answer = async () => new URL(await resolve!(name), runtime.base()).href;
    answer()
      .then(
        (url) => client.call("resolved", { request, url }),
        (error: unknown) =>
          client.call("resolved", {
            request,
            error: `resolve failed: ${(error as Error)?.message}`,
          }),
      )
      .catch(() => {}); // The model was disposed of meanwhile.
  };
}

function isRemote(options: UniviOptions | RemoteOptions): options is RemoteOptions {
  return typeof options === "object" && (options as RemoteOptions | null)?.remote != null;
}

/** Asks a server for its model, and makes what asks it from then on. */
async function createRemote(
  options: RemoteOptions,
  make: (
    info: ModelInfo,
    client: Client,
    messageFiles: string | URL | undefined,
    end: () => void,
  ) => Univi,
): Promise<Univi> {
  const given = copyOptions<RemoteOptions>(options, REMOTE, "Univi.create with remote");
  const { remote, model, apiKey, messageFiles, signal } = given;
  signal?.throwIfAborted();
  const { remoteHost, serverOf } = await import("./remote/host.js");
  const { allowedOrigins } = limitsOf(given);
  const server = serverOf(remote, runtime.base(), { apiKey, allowedOrigins });
  const { client, end } = inThisThread(remoteHost(server, model));
  try {
    const source = { kind: "url", url: server.base.href, resolves: false } as const;
    const info = await client.call("load", { source, device: "auto", cache: "none" }, { signal });
    return make(info, client, messageFiles, end);
  } catch (error) {
    end();
    throw error;
  }
}

function isRemoteModel(model: UniviOptions["model"]): model is RemoteModel {
  return typeof model === "object" && !(model instanceof URL) && "url" in model;
}

/** Where a model is that is none of the Hub. What is meant for those alone is refused. */
function sourceElsewhere(given: AvailabilityOptions | UniviOptions): Promise<ModelSource> {
  for (const option of ["quantization", "hubEndpoint", "token"] as const)
    if (given[option] !== undefined)
      throw new UniviError(
        "bad-request",
        `${option} is for a model of the Hub, "hf:OWNER/NAME", alone; leave it out`,
      );
  return modelSource(given.model);
}

/** What is said of a model of the Hub beside its address. */
function hubChoice(
  { quantization, hubEndpoint, token, cache, signal }: Partial<UniviOptions>,
  { allowedOrigins }: { readonly allowedOrigins?: readonly string[] },
): HubChoice {
  return { quantization, hubEndpoint, token, cache, signal, allowedOrigins };
}

/** Where a model of the Hub is, once it is converted where it has to be. */
async function hubSource(
  client: Client,
  address: string | URL,
  choice: HubChoice,
  onProgress: (progress: LoadProgress) => void = () => {},
): Promise<ModelSource> {
  const found = await findHubModel(client, address, choice);
  if (found.kind === "loadable") {
    if (found.asPublished && choice.quantization !== undefined)
      throw new UniviError(
        "bad-request",
        `quantization is for checkpoints, and ${address} is converted already; leave it out, or ` +
          "name the repository of the checkpoint",
      );
    return found.source;
  }
  return convertHubModel(found.request, onProgress, choice.signal);
}

/** Whether a model of the Hub can be loaded, and what it takes to convert it where it has to be. */
async function hubAvailability(
  client: Client,
  address: string | URL,
  choice: HubChoice,
  availabilityOf: (source: ModelSource) => Promise<Availability>,
): Promise<Availability> {
  try {
    const model = await findHubModel(client, address, choice);
    if (model.kind === "loadable") return await availabilityOf(model.source);
    const { plan, source } = await planHubModel(model.request, choice.signal);
    const found = await availabilityOf(source);
    if (found.status === "unavailable") return found;
    return { ...found, status: "downloadable", cachedBytes: 0, conversion: conversionOf(plan) };
  } catch (error) {
    choice.signal?.throwIfAborted();
    if (!(error instanceof UniviError)) throw error;
    return { status: "unavailable", reason: error.message, code: error.code };
  }
}

function conversionOf({ files, license, bytesPerSecond }: ConversionPlan): Conversion {
  const sum = (bytes: (file: PlannedFile) => number) =>
    files.reduce((sum, file) => sum + bytes(file), 0);
  return {
    fetchBytes: sum(({ fetchBytes }) => fetchBytes),
    fetchedBytes: sum(({ fetchedBytes }) => fetchedBytes),
    ...(license === undefined ? {} : { license }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
  };
}

/** Where calls go, and how that ends. */
interface OtherEnd {
  readonly client: Client;
  readonly end: () => void;
}

function inWorker(): OtherEnd {
  const worker = startWorker((error) => client.break(error));
  const client = new Client(worker);
  return { client, end: () => worker.terminate() };
}

async function withoutWorker(): Promise<OtherEnd> {
  const { host } = await import("./host.js");
  return inThisThread(host);
}

function inThisThread(host: Host<Calls>): OtherEnd {
  const [here, there] = ports();
  serve(there, host);
  return {
    client: new Client(here),
    end: () => here.postMessage({ id: -1, method: "dispose", params: {} }, []),
  };
}

/**
 * Two ends of a channel that copies nothing: some runtimes forget a file's name when it crosses a
 * `MessageChannel`.
 */
function ports(): [Port, Port] {
  const ends = [0, 1].map(
    (self): Port => ({
      onmessage: null,
      postMessage: (data) =>
        queueMicrotask(() => ends[1 - self]!.onmessage?.({ data } as MessageEvent)),
    }),
  );
  return ends as [Port, Port];
}

async function modelSource(model: UniviOptions["model"] | undefined): Promise<ModelSource> {
  if (model === undefined)
    throw new UniviError(
      "bad-request",
      "no model is named; pass { model } with the URL of its manifest.json or .gguf, or its files",
    );
  if (typeof model === "string" || model instanceof URL) return runtime.model(model);
  if (isRemoteModel(model)) {
    const source = await runtime.model(model.url);
    return source.kind === "url" ? { ...source, resolves: model.resolve !== undefined } : source;
  }
  if ("kind" in model) return { kind: "files", files: await filesOf(model) };
  return { kind: "files", files: [...model] };
}

/** The files of a folder that was picked; nothing of them is read yet. */
async function filesOf(folder: FileSystemDirectoryHandle): Promise<File[]> {
  const files: File[] = [];
  try {
    for await (const entry of folder.values()) {
      if (entry.kind !== "file") continue;
      // One that can't be read need not be the model's.
      const file = await (entry as FileSystemFileHandle).getFile().catch(() => undefined);
      if (file) files.push(file);
    }
  } catch (cause) {
    throw new UniviError(
      "io",
      `${folder.name}: the folder can't be read: ${(cause as Error).message}`,
      { cause },
    );
  }
  return files;
}
