/** The methods that the worker serves, with what crosses the channel for each. */
import type { HubAccess } from "./hub/access.js";
import type { HubListing } from "./hub/repository.js";
import type {
  ClipTiming,
  Availability,
  CacheChoice,
  ContextUsage,
  Device,
  FrameChoice,
  KvCache,
  LoadProgress,
  MemoryUsage,
  ModelInfo,
  SamplingOptions,
  SessionOptions,
  TokenMap,
  Usage,
} from "./types.js";

/** Where a model comes from. */
export type ModelSource =
  | {
      readonly kind: "url";
      readonly url: string;
      /** The page decides on the addresses of its files. */
      readonly resolves: boolean;
      /** What the store calls the model, where that is not its URL. */
      readonly key?: string;
      /** The Hub that it lies on. */
      readonly hub?: HubAccess;
    }
  | {
      /** The store keeps all of it. */
      readonly kind: "kept";
      /** What the store calls it. */
      readonly key: string;
    }
  | {
      readonly kind: "files";
      readonly files: readonly File[];
      /** The manifest or GGUF file among them that was named; without it, the one there is. */
      readonly named?: string;
    };

/** The question where a file of the model lies, which the page answers with `resolved`. */
export interface ResolveRequest {
  readonly request: number;
  readonly resolve: string;
}

/**
 * A picture on its way to the model. Encoded bytes are decoded by UniVi itself, so that colour and
 * alpha are exact.
 */
export type SentImage =
  | { readonly kind: "blob"; readonly blob: Blob; readonly name: string }
  | {
      readonly kind: "pixels";
      readonly width: number;
      readonly height: number;
      readonly rgba: Uint8ClampedArray<ArrayBuffer>;
    }
  | { readonly kind: "bitmap"; readonly bitmap: ImageBitmap };

/** A frame of a clip on its way to the model. */
export type FramePicture = Extract<SentImage, { kind: "bitmap" | "pixels" }>;

/** A turn that is over. */
export interface PastTurn {
  readonly parts: readonly SentPart[];
  readonly answer: string;
}

/** Words, or something that was encoded. */
export type SentPart = string | { readonly visual: Handle };

/** The same on its way to the worker: whatever object the schema is, its JSON gets through. */
export interface SentSampling extends Omit<SamplingOptions, "jsonSchema"> {
  readonly jsonSchema?: string;
  /** Of how many tokens beside each of the answer the log-probabilities are reported. */
  readonly logprobs?: number;
}

/** A token that the model might say. */
export interface SentLogprob {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: Uint8Array;
}

/** The next text of an answer. */
export interface AnswerPiece {
  readonly text: string;
  /** Its tokens, where their log-probabilities are asked for. */
  readonly logprobs?: readonly (SentLogprob & { readonly top: readonly SentLogprob[] })[];
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
      allowedOrigins?: readonly string[];
    };
    event: LoadProgress | ResolveRequest;
    result: ModelInfo;
  };
  /** Asks a Hub what a repository holds. */
  listHub: {
    params: {
      hub: HubAccess;
      repository: string;
      revision: string;
      allowedOrigins?: readonly string[];
    };
    event: never;
    result: HubListing;
  };
  /** Whether {@link Calls.load} would have a chance; nothing but the manifest is fetched. */
  availability: {
    params: {
      source: ModelSource;
      device: Device;
      contextLength?: number;
      kvCache?: KvCache;
      allowedOrigins?: readonly string[];
    };
    event: ResolveRequest;
    result: Availability;
  };
  /** Where the file of a {@link ResolveRequest} lies, or why the page can't say. */
  resolved: {
    params: { request: number; url?: string; error?: string };
    event: never;
    result: void;
  };
  /** Encodes a picture as `visual`, and keeps its token map as `tokenMap`. */
  encodeImage: {
    params: { visual: Handle; tokenMap?: Handle; image: SentImage; visualTokens?: number };
    event: never;
    result: void;
  };
  /** Reads a token map back from the device. */
  tokenMap: { params: { tokenMap: Handle }; event: never; result: TokenMap };
  /** Fetches a whole file, with retries. */
  fetchFile: { params: { url: string }; event: never; result: Blob };
  /** The moments to sample, in seconds from the clip's first frame. */
  frameTimes: {
    params: { timing: ClipTiming; choice: FrameChoice };
    event: never;
    result: number[];
  };
  /** About how many tokens a clip of so many frames becomes. */
  clipTokens: {
    params: { frames: number; visualTokens?: number };
    event: never;
    result: number;
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
  encodeClip: {
    params: { visual: Handle; tokenMap?: Handle; visualTokens?: number };
    event: never;
    result: void;
  };
  /**
   * Encodes a frame of a live session and adds it to those of the last `windowSeconds`; the first
   * one opens `live`. Returns the times of the frames in the window.
   */
  encodeFrame: {
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
  /** Merges the frames of the window into one clip. */
  mergeFrames: {
    params: { live: Handle; visual: Handle; tokenMap?: Handle; visualTokens?: number };
    event: never;
    result: void;
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
    event: AnswerPiece;
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
