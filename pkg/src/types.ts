/** The data that users of the package pass and receive. */
import type { UniviErrorCode } from "./error.js";

/**
 * What computes: `"auto"` is WebGPU where there is a GPU behind it, else the CPU, also where a
 * browser offers WebGPU in software.
 */
export type Device = "auto" | "webgpu" | "cpu";

/**
 * How a conversation keeps keys and values: f32 as they are computed, or bytes with a scale for
 * every 32.
 */
export type KvCache = "f32" | "q8";

/** The progress of loading. */
export interface LoadProgress {
  /**
   * - `manifest`: the list of files is read;
   * - `convert`: a checkpoint streams from the Hub and is converted; `loaded` and `total` count the
   *   bytes of the checkpoint here;
   * - `download`: files stream from the network onto the device, hashed on the way;
   * - `verify`: files that are kept here do, hashed as well;
   * - `upload`: the device takes the last of them;
   * - `compile`: the model is put together, and its shaders are compiled;
   * - `ready`: it can be asked.
   */
  readonly phase: "manifest" | "convert" | "download" | "verify" | "upload" | "compile" | "ready";
  /** Bytes of the whole model that have arrived; it never falls but after `convert`. */
  readonly loaded: number;
  /** Bytes of the whole model; 0 where it is not known. */
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

/** Whether a model can be loaded here. */
export interface Availability {
  /**
   * - `available`: it lies here, and loads without the network;
   * - `downloadable`: it has to be fetched, in part or whole;
   * - `downloading`: another tab fetches it just now;
   * - `unavailable`: it can't run here, for `reason`.
   */
  readonly status: "available" | "downloadable" | "downloading" | "unavailable";
  /** What the manifest calls the model, or the name of its first file. */
  readonly name?: string;
  /** What would compute. */
  readonly device?: "webgpu" | "cpu";
  /** Why `"auto"` takes the CPU. */
  readonly deviceReason?: string;
  /** The adapter as the browser describes it, or the CPU path. */
  readonly adapter?: string;
  /** Bytes of all files, where a manifest or their server tells. */
  readonly bytes?: number;
  /** Those of them that lie here. */
  readonly cachedBytes?: number;
  /** What it takes to convert it, where it is a checkpoint on the Hub. */
  readonly conversion?: Conversion;
  /** Why it is unavailable, and what would help. */
  readonly reason?: string;
  /** The same, for programs. */
  readonly code?: UniviErrorCode;
}

/** What it takes to convert a checkpoint of the Hub in this browser. */
export interface Conversion {
  /** Bytes of the checkpoint that have to be fetched in all. */
  readonly fetchBytes: number;
  /** Those of them that were fetched and converted on an earlier visit. */
  readonly fetchedBytes: number;
  /** How fast the checkpoint's description came, where enough of it did to tell. */
  readonly bytesPerSecond?: number;
  /** The licence that its repository states, such as `llama2`. */
  readonly license?: string;
}

/** What was loaded, and what it runs on. */
export interface ModelInfo {
  /** What the checkpoint calls itself. */
  readonly name: string;
  /** What computes; `"remote"` is a server. */
  readonly device: "webgpu" | "cpu" | "remote";
  /** Why `"auto"` took the CPU. */
  readonly deviceReason?: string;
  /** The adapter as the browser describes it, or the CPU path; the address of a server. */
  readonly adapter: string;
  /** Whether the model sees: images and clips can be asked about. */
  readonly vision: boolean;
  /** Tokens that a conversation may hold; 0 where a server does not say so. */
  readonly contextLength: number;
  /** Bytes of the model's files. */
  readonly bytes: number;
  /** Those of them that were kept here from earlier. */
  readonly cachedBytes: number;
  /** Where they are kept, and why not in a better place. */
  readonly cache: { readonly kind: Exclude<CacheChoice, "auto">; readonly reason?: string };
}

/** Memory that a model takes. */
export interface MemoryUsage {
  /**
   * Bytes of GPU memory that are taken: weights, conversations, and room for results; 0 on the CPU.
   */
  readonly gpuBytes: number;
  /** Bytes of the WebAssembly module's memory, which never shrinks: the most that it has needed. */
  readonly wasmBytes: number;
}

/** A picture, or a frame of a clip, that was encoded. */
export interface TokenMapFrame {
  /** When it is shown; 0 for a picture. */
  readonly timeSeconds: number;
  /** Pixels, as it is displayed. */
  readonly width: number;
  readonly height: number;
  /** The square in the middle that is encoded, in those pixels. */
  readonly crop: { readonly x: number; readonly y: number; readonly side: number };
}

/** One stage of merging. */
export interface MergeStage {
  /** Merged tokens of this stage. */
  readonly tokens: number;
  /**
   * The token of each patch: frame after frame of the event, in a frame row by row from the top
   * left.
   */
  readonly groups: Uint32Array;
}

/** Frames of a clip that were merged into one event. */
export interface VideoEvent {
  /** Numbers of its frames, rising; they need not be neighbours. */
  readonly frames: readonly number[];
  /** Tokens that the language model reads for it. */
  readonly tokens: number;
  /** The stages of merging, finest first; none where the model does not merge. */
  readonly stages: readonly MergeStage[];
}

/** What the model saw of an image or a clip, as plain data. An image is one event of one frame. */
export interface TokenMap {
  readonly kind: "image" | "clip";
  /** Patches along each side of a frame's square. */
  readonly patchesPerSide: number;
  readonly frames: readonly TokenMapFrame[];
  /** In the order of their first frames. */
  readonly events: readonly VideoEvent[];
  /** Tokens that the language model reads in all. */
  readonly tokens: number;
}

/** Which frames of a clip are encoded. */
export interface FrameChoice {
  /** Where to begin, in seconds from the first frame; 0 by default. Fractions count. */
  readonly startSeconds?: number;
  /** Where to end, in seconds, not before `startSeconds`; the clip's end by default. */
  readonly endSeconds?: number;
  /** Frames per second, 1 by default. */
  readonly frameRate?: number;
  /** At most so many, evenly spread; 64 by default. */
  readonly maxFrames?: number;
}

/** What encoding a clip would come to. */
export interface ClipMeasure {
  /** When the frames that would be encoded are shown, in seconds from the first of the clip. */
  readonly timesSeconds: readonly number[];
  /** When the clip ends, in the same seconds. */
  readonly durationSeconds: number;
  /** Tokens that the language model would read for it, about. */
  readonly tokens: number;
}

/** How the prompt of a conversation is made. */
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

/** Tokens and times of an answer. */
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

/** When the frames of a clip are shown, in seconds from its first frame. */
export interface ClipTiming {
  /** When the first frames appear, which their rate is found from; none where it is not known. */
  readonly firstSeconds: readonly number[];
  readonly lastSeconds: number;
  /** When the last frame ends, as far as the clip says so. */
  readonly endSeconds: number;
}
