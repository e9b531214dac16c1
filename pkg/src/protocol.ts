/**
 * What the page and its worker say to each other: the one place where it is written down.
 *
 * The page calls a {@link Calls | method}, the worker answers with any number of events and then
 * one result or one error; a call can be cancelled at any time. Neither side knows whether a worker
 * or only a `MessageChannel` lies between them.
 */
import { codeOf, UniviError, type UniviErrorCode } from "./error.js";

/** Where a model comes from. */
export type ModelSource =
  | { readonly kind: "url"; readonly url: string }
  | { readonly kind: "files"; readonly files: readonly File[] };

/** What computes: `"auto"` is WebGPU where there is a usable one, else the CPU. */
export type Device = "auto" | "webgpu" | "cpu";

/**
 * How a conversation keeps keys and values: f32 as they are computed, or bytes with a scale for
 * every 32.
 */
export type KvCache = "f32" | "q8";

/** How far loading has come. */
export interface LoadProgress {
  /**
   * - `manifest`: the list of files is read;
   * - `download`: files stream from the network onto the device, hashed on the way;
   * - `verify`: files that are kept here do, hashed as well;
   * - `upload`: the device takes the last of them;
   * - `compile`: the model is put together, and its shaders are compiled;
   * - `ready`: it can be asked.
   */
  readonly phase: "manifest" | "download" | "verify" | "upload" | "compile" | "ready";
  /** Bytes of the whole model that have arrived; it never falls. */
  readonly loaded: number;
  /** Bytes of the whole model; 0 where nobody says. */
  readonly total: number;
  /** The file that is arriving. */
  readonly file: string;
  /** Bytes per second over the last seconds, once that can be told. */
  readonly bytesPerSecond?: number;
  /** Seconds until all bytes have arrived, at that speed. */
  readonly etaSeconds?: number;
}

/**
 * Where files of models are kept between visits; `"auto"` takes the first of the others that works
 * here.
 */
export type CacheChoice = "auto" | "opfs" | "cache-api" | "none";

/** Whether a model can be had here. */
export interface Availability {
  /**
   * - `available`: it lies here, and loads without the network;
   * - `downloadable`: it has to be fetched, in part or whole;
   * - `downloading`: another tab fetches it just now;
   * - `unavailable`: it can't run here, for `reason`.
   */
  readonly status: "available" | "downloadable" | "downloading" | "unavailable";
  /** What would compute. */
  readonly device?: "webgpu" | "cpu";
  /** The adapter as the browser describes it, or the CPU path. */
  readonly adapter?: string;
  /** Bytes of all files, where the manifest tells. */
  readonly bytes?: number;
  /** Those of them that lie here. */
  readonly keptBytes?: number;
  /** Why it is unavailable, and what would help. */
  readonly reason?: string;
  /** The same, for programs. */
  readonly code?: UniviErrorCode;
}

/** What was loaded, and what it runs on. */
export interface ModelInfo {
  /** What the checkpoint calls itself. */
  readonly name: string;
  /** What computes. */
  readonly device: "webgpu" | "cpu";
  /** The adapter as the browser describes it, or the CPU path. */
  readonly adapter: string;
  /** Whether the model sees: images and clips can be asked about. */
  readonly vision: boolean;
  /** Tokens that a conversation may hold. */
  readonly contextLength: number;
  /** Bytes of the model's files. */
  readonly bytes: number;
  /** Those of them that were kept here from earlier. */
  readonly keptBytes: number;
  /** Where they are kept, and why not in a better place. */
  readonly cache: { readonly kind: Exclude<CacheChoice, "auto">; readonly reason?: string };
}

/**
 * An image on its way to the model. Encoded bytes are decoded by UniVi itself, so that colour and
 * alpha are exact.
 */
export type ImageSource =
  | { readonly kind: "blob"; readonly blob: Blob; readonly name: string }
  | { readonly kind: "url"; readonly url: string }
  | {
      readonly kind: "pixels";
      readonly width: number;
      readonly height: number;
      readonly rgba: Uint8ClampedArray<ArrayBuffer>;
    }
  | { readonly kind: "bitmap"; readonly bitmap: ImageBitmap };

/** A frame of a clip on its way to the model. */
export type FramePicture = Extract<ImageSource, { kind: "bitmap" | "pixels" }>;

/** Memory that a model takes. */
export interface MemoryUsage {
  /**
   * Bytes of GPU memory that are taken: weights, conversations, and room for results; 0 on the CPU.
   */
  readonly gpuBytes: number;
  /** Bytes of the WebAssembly module's memory, which never shrinks: the most that it has needed. */
  readonly wasmBytes: number;
}

/** A picture, or a frame of a clip, that the model looked at. */
export interface SeenFrame {
  /** When it is shown; 0 for a picture. */
  readonly timeSeconds: number;
  /** Pixels, as it is displayed. */
  readonly width: number;
  readonly height: number;
  /** The square in the middle that the model looks at, in those pixels. */
  readonly crop: { readonly x: number; readonly y: number; readonly side: number };
}

/** One stage of merging. */
export interface SeenStage {
  /** Merged tokens of this stage. */
  readonly tokens: number;
  /**
   * The token of each patch: frame after frame of the event, in a frame row by row from the top
   * left.
   */
  readonly groups: Uint32Array;
}

/** Frames that were told to the language model as one. */
export interface SeenEvent {
  /** Numbers of its frames, rising; they need not be neighbours. */
  readonly frames: readonly number[];
  /** Tokens that the language model reads for it. */
  readonly tokens: number;
  /** The stages of merging, finest first; none where the model does not merge. */
  readonly stages: readonly SeenStage[];
}

/** What the model saw of an image or a clip, as plain data. An image is one event of one frame. */
export interface Seen {
  readonly kind: "image" | "clip";
  /** Patches along each side of a frame's square. */
  readonly patchesPerSide: number;
  readonly frames: readonly SeenFrame[];
  /** In the order of their first frames. */
  readonly events: readonly SeenEvent[];
  /** Tokens that the language model reads in all. */
  readonly tokens: number;
}

/** Which frames of a clip to look at. */
export interface FrameChoice {
  /** Whole seconds. */
  readonly startSeconds?: number;
  /** Whole seconds, inclusive. */
  readonly endSeconds?: number;
  /** Frames per second, 1 by default. */
  readonly frameRate?: number;
  /** At most so many, evenly spread; 64 by default. */
  readonly maxFrames?: number;
}

/** How a conversation is put to the model. */
export interface SessionOptions {
  /** The instructions before the first turn; the template's own by default. */
  readonly system?: string;
  /** The prompt template; the checkpoint's own by default. */
  readonly template?: string;
  /**
   * What happens where the conversation gets too long for the context: the question is refused with
   * `context-overflow`, which is the default, or the oldest turns are forgotten until there is room
   * for it and an answer.
   */
  readonly overflow?: "refuse" | "drop-oldest";
}

/** How much of the context a conversation takes. */
export interface ContextUsage {
  /** Tokens of the conversation so far. */
  readonly used: number;
  /** Tokens that there may be. */
  readonly capacity: number;
}

/** A turn that is over. */
export interface PastTurn {
  readonly parts: readonly SentPart[];
  readonly answer: string;
}

/** Words, or something that was encoded. */
export type SentPart = string | { readonly visual: Handle };

/** How an answer is chosen. Unset values are the checkpoint's own defaults. */
export interface SamplingOptions {
  /** At most so many tokens. */
  readonly maxTokens?: number;
  /** 0 takes the likeliest token every time. */
  readonly temperature?: number;
  /** Only the so many likeliest tokens. */
  readonly topK?: number;
  /** Only the likeliest tokens that together have this probability. */
  readonly topP?: number;
  /** Only tokens of at least this share of the likeliest one's probability. */
  readonly minP?: number;
  /** Above 1: what was said becomes less likely. */
  readonly repetitionPenalty?: number;
  /** The same seed gives the same answer. */
  readonly seed?: number;
  /** Ends the answer where one of these appears; it is cut off. */
  readonly stop?: readonly string[];
  /**
   * The answer is a JSON value that is valid for this JSON schema. It has its properties in the
   * order in which the schema names them. What is not supported of the schema is refused with
   * `bad-request`; the README lists what is.
   */
  readonly jsonSchema?: object;
}

/** The same on its way to the worker: whatever object the schema is, its JSON gets through. */
export interface SentSampling extends Omit<SamplingOptions, "jsonSchema"> {
  readonly jsonSchema?: string;
}

/** What an answer cost. */
export interface Usage {
  /** Tokens of the conversation up to the answer. */
  readonly promptTokens: number;
  /** Those of them that did not have to be read again. */
  readonly reusedTokens: number;
  /** Those of them that stand for images and clips. */
  readonly visualTokens: number;
  /** Tokens of the answer. */
  readonly completionTokens: number;
  /** Turns that were forgotten to make room, with `overflow: "drop-oldest"`. */
  readonly droppedTurns: number;
  /** Milliseconds from the question, visuals already encoded, to the first piece. */
  readonly timeToFirstTokenMs: number;
  /** Tokens that had to be read, per second of that time. */
  readonly prefillTokensPerSecond: number;
  /** Tokens of the answer per second, after the first; 0 where there is only one. */
  readonly tokensPerSecond: number;
  /** Why the answer ended: the model had said all, or the most tokens were reached. */
  readonly finishReason: "stop" | "length";
}

/**
 * A number that the page gives to something that lives in the worker. The page chooses it, so that
 * it can free what it asked for even if it never heard back.
 */
export type Handle = number;

/**
 * Every method that the worker serves, by name. Calls that have a handle in common are carried out
 * one after the other, in the order they came; others side by side.
 */
export interface Calls {
  load: {
    params: {
      source: ModelSource;
      device: Device;
      cache: CacheChoice;
      contextLength?: number;
      kvCache?: KvCache;
      verifyUpload?: boolean;
    };
    event: LoadProgress;
    result: ModelInfo;
  };
  /** Whether {@link Calls.load} would have a chance; nothing but the manifest is fetched. */
  availability: {
    params: { source: ModelSource; device: Device; contextLength?: number; kvCache?: KvCache };
    event: never;
    result: Availability;
  };
  encodeImage: {
    params: { visual: Handle; image: ImageSource; visualTokens?: number };
    event: never;
    result: Seen;
  };
  /** The times, in seconds, at which a clip of this length is to be looked at. */
  frameTimes: {
    params: { durationSeconds: number; choice: FrameChoice };
    event: never;
    result: number[];
  };
  /** An animated GIF or WebP is decoded by UniVi itself. */
  pushAnimation: {
    params: { visual: Handle; blob: Blob; name: string; choice: FrameChoice };
    event: never;
    result: void;
  };
  /** One frame of a clip, in order; the first one opens it. */
  pushFrame: {
    params: { visual: Handle; timeSeconds: number; frame: FramePicture };
    event: never;
    result: void;
  };
  encodeClip: { params: { visual: Handle; visualTokens?: number }; event: never; result: Seen };
  /**
   * A frame of what goes on joins those of the last `windowSeconds`; the first one opens `live`.
   * The times of those that are kept.
   */
  pushLive: {
    params: {
      live: Handle;
      timeSeconds: number;
      windowSeconds: number;
      frame: ImageBitmap;
      visualTokens?: number;
    };
    event: never;
    result: number[];
  };
  /** The frames that are kept, as one clip. */
  recall: {
    params: { live: Handle; visual: Handle; visualTokens?: number };
    event: never;
    result: Seen;
  };
  openSession: { params: { session: Handle; options: SessionOptions }; event: never; result: void };
  /** The same conversation once more. */
  fork: { params: { session: Handle; from: Handle }; event: never; result: void };
  /** Another conversation instead of this one, with a past; the first one opens it. */
  restart: {
    params: { session: Handle; options: SessionOptions; turns: readonly PastTurn[] };
    event: never;
    result: void;
  };
  append: {
    params: { session: Handle; parts: readonly SentPart[] };
    event: never;
    result: ContextUsage;
  };
  /** Forgets all turns but the first so many. */
  rewind: { params: { session: Handle; keep: number }; event: never; result: ContextUsage };
  answer: {
    params: { session: Handle; parts: readonly SentPart[]; options: SentSampling };
    event: string;
    result: { usage: Usage; context: ContextUsage };
  };
  memory: { params: Record<never, never>; event: never; result: MemoryUsage };
  /** Frees visuals and sessions; handles of nothing are ignored. */
  free: { params: { handles: readonly Handle[] }; event: never; result: void };
  /** Frees everything, once all calls under way have come to rest. */
  dispose: { params: Record<never, never>; event: never; result: void };
}

/** The name of a method. */
export type Method = keyof Calls;

type Call = { id: number; method: Method; params: unknown };
type Request = Call | { id: number; cancel: true };
type Reply =
  | { id: number; event: unknown }
  | { id: number; result: unknown }
  | { id: number; error: Failure };
type Failure = { code: UniviErrorCode; message: string };

/** One end of a channel: a `Worker`, a worker's own scope, or a `MessagePort`. */
export interface Port {
  postMessage(message: unknown, transfer: Transferable[]): void;
  onmessage: ((event: MessageEvent) => void) | null;
}

/** What goes along with a call. */
export interface CallOptions<M extends Method> {
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: Calls[M]["event"]) => void) | undefined;
  /** Handed over rather than copied. */
  readonly transfer?: Transferable[];
}

/** The page's end. */
export class Client {
  readonly #port: Port;
  readonly #pending = new Map<number, (reply: Reply) => void>();
  #nextId = 0;
  #broken: UniviError | undefined;

  constructor(port: Port) {
    this.#port = port;
    port.onmessage = ({ data }: MessageEvent<Reply>) => this.#pending.get(data.id)?.(data);
  }

  /**
   * Calls `method`. An aborted `signal` rejects at once with the signal's reason and cancels the
   * call at the other end, where the next call waits until it has come to rest.
   */
  call<M extends Method>(
    method: M,
    params: Calls[M]["params"],
    options: CallOptions<M> = {},
  ): Promise<Calls[M]["result"]> {
    const { signal, onEvent, transfer = [] } = options;
    if (this.#broken) return Promise.reject(this.#broken);
    if (signal?.aborted) return Promise.reject(signal.reason);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const done = () => {
        this.#pending.delete(id);
        signal?.removeEventListener("abort", abort);
      };
      const abort = () => {
        done();
        this.#post({ id, cancel: true });
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", abort);
      this.#pending.set(id, (reply) => {
        if ("event" in reply) {
          onEvent?.(reply.event as Calls[M]["event"]);
          return;
        }
        done();
        if ("result" in reply) resolve(reply.result as Calls[M]["result"]);
        else reject(new UniviError(reply.error.code, reply.error.message));
      });
      this.#post({ id, method, params }, transfer);
    });
  }

  /** A number that stands for nothing yet. */
  newHandle(): Handle {
    return this.#nextId++;
  }

  /** Rejects every call under way and every later one: the other end is gone, or about to go. */
  break(reason: UniviError): void {
    if (!this.#broken) for (const id of this.#pending.keys()) this.#post({ id, cancel: true });
    this.#broken ??= reason;
    const { code, message } = this.#broken;
    for (const [id, settle] of [...this.#pending]) settle({ id, error: { code, message } });
  }

  #post(request: Request, transfer: Transferable[] = []): void {
    this.#port.postMessage(request, transfer);
  }
}

/** What a handler is given beside the call's parameters. */
export interface Context<M extends Method> {
  readonly signal: AbortSignal;
  emit(event: Calls[M]["event"]): void;
}

/** One function for each method. */
export type Handlers = {
  [M in Method]: (params: Calls[M]["params"], context: Context<M>) => Promise<Calls[M]["result"]>;
};

/** The worker's end: carries out the calls that come through `port`. */
export function serve(port: Port, handlers: Handlers): void {
  const known = new Map<number, AbortController>();
  const reply = (message: Reply) => port.postMessage(message, []);
  /** The last call to come for each handle. */
  const last = new Map<Handle, Promise<void>>();
  const running = new Set<Promise<void>>();

  const carryOut = async ({ id, method, params }: Call, signal: AbortSignal) => {
    try {
      signal.throwIfAborted();
      const handler = handlers[method] as (
        params: unknown,
        context: Context<Method>,
      ) => Promise<unknown>;
      const result = await handler(params, {
        signal,
        emit: (event: unknown) => reply({ id, event }),
      });
      reply({ id, result });
    } catch (error) {
      reply({ id, error: failure(error) });
    } finally {
      known.delete(id);
    }
  };

  port.onmessage = ({ data }: MessageEvent<Request>) => {
    if ("cancel" in data) {
      known.get(data.id)?.abort();
      return;
    }
    const controller = new AbortController();
    known.set(data.id, controller);
    const handles = handlesOf(data.params);
    const before =
      data.method === "dispose" ? [...running] : handles.map((handle) => last.get(handle));
    const call = Promise.all(before).then(() => carryOut(data, controller.signal));
    running.add(call);
    for (const handle of handles) last.set(handle, call);
    void call.then(() => {
      running.delete(call);
      for (const handle of handles) if (last.get(handle) === call) last.delete(handle);
    });
  };
}

/** Everything in the worker that a call has to do with. */
function handlesOf(params: unknown): Handle[] {
  type Named = { readonly [name in "visual" | "session" | "from" | "live"]?: Handle } & {
    readonly handles?: readonly Handle[];
    readonly parts?: readonly SentPart[];
    readonly turns?: readonly PastTurn[];
  };
  const { visual, session, from, live, handles = [], parts = [], turns = [] } = params as Named;
  const visuals = [...parts, ...turns.flatMap((turn) => turn.parts)].map((part) =>
    typeof part === "string" ? undefined : part.visual,
  );
  return [visual, session, from, live, ...handles, ...visuals].filter(
    (handle) => handle !== undefined,
  );
}

/**
 * What crosses the channel of an error: classes don't. The page ignores what it has aborted itself.
 */
function failure(error: unknown): Failure {
  const code = codeOf(error);
  if (code) return { code, message: (error as Error).message };
  return {
    code: "internal",
    message: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
  };
}
