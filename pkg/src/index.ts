/**
 * Ask questions about images and clips, in the page, on WebGPU: Chat-UniVi (arXiv 2311.08046).
 *
 * @packageDocumentation
 */
export { UniviError, type UniviErrorCode } from "./error.js";
export { Univi, type UniviOptions } from "./univi.js";
export {
  Answer,
  type AskOptions,
  type ConversationOptions,
  type LookingOptions,
  type PastQuestion,
  Session,
} from "./session.js";
export { Live, type LiveStats, type WatchOptions } from "./live.js";
export type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  ChatContentPart,
  ChatFinishReason,
  ChatMessage,
  ChatRequestOptions,
  ChatResponseFormat,
  ChatUsage,
  Completions,
} from "./completions.js";
export {
  type CachedModel,
  cachedModels,
  clearCache,
  deleteCachedModel,
  persistCache,
} from "./store/cached.js";
export { type StorageEstimate, storageEstimate } from "./store/cached.js";
export type { AskProgress, ClipPart, LookOptions, Part } from "./parts.js";
export type { ClipSource } from "./clip.js";
export type {
  Availability,
  CacheChoice,
  ContextUsage,
  Device,
  KvCache,
  FrameChoice,
  LoadProgress,
  MemoryUsage,
  ModelInfo,
  SamplingOptions,
  Seen,
  SeenEvent,
  SeenFrame,
  SeenStage,
  SessionOptions,
  Usage,
} from "./protocol.js";
