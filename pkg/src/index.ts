/**
 * Ask questions about images and clips, in the page, on WebGPU: Chat-UniVi (arXiv 2311.08046).
 *
 * @module univi
 */
export { UniviError, type UniviErrorCode } from "./error.js";
export {
  type AvailabilityOptions,
  type RemoteModel,
  type RemoteOptions,
  Univi,
  type UniviOptions,
} from "./univi.js";
export { StreamedAnswer } from "./answer.js";
export type { ChatMessage } from "./messages.js";
export type { AskOptions } from "./question.js";
export { type AppendedParts, type ConversationOptions, Session } from "./session.js";
export { Live, type LiveState, type LiveStats, type WatchOptions } from "./live.js";
export type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  ChatCompletionContentPart,
  ChatFinishReason,
  ChatLogprobs,
  ChatCompletionMessage,
  ChatRequestOptions,
  ChatResponseFormat,
  ChatTopLogprob,
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
export type {
  AskProgress,
  ClipPart,
  ClipSource,
  ImagePart,
  ImageSource,
  MediaBytes,
  Part,
  TextPart,
  VisualOptions,
} from "./parts.js";
export type {
  Availability,
  CacheChoice,
  ClipMeasure,
  ContextUsage,
  Conversion,
  Device,
  FrameChoice,
  KvCache,
  LoadProgress,
  MemoryUsage,
  MergeStage,
  ModelInfo,
  SamplingOptions,
  SessionOptions,
  TokenMap,
  TokenMapFrame,
  Usage,
  VideoEvent,
} from "./types.js";
