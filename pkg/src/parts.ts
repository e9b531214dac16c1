/** What a question is made of, and how each kind of part reaches the model. */
import { type ClipSource, pushFrames } from "./clip.js";
import { UniviError } from "./error.js";
import type { Handle, ImageSource } from "./calls.js";
import type { Client } from "./rpc.js";
import type { FrameChoice, TokenMap } from "./types.js";
import { isA, runtime } from "./runtime.js";

/** A clip, and which of its frames to look at. */
export interface ClipPart extends FrameChoice {
  readonly video: ClipSource;
}

/**
 * One part of a question:
 *
 * - a `string` is text;
 * - a `Blob` or `File` is an image, or a clip where its type says `video/*`;
 * - a `Uint8Array` is an encoded image;
 * - a `URL` is an image;
 * - anything that can be drawn is an image, a `<video>` its current frame;
 * - `{ video, startSeconds, .. }` is a clip.
 *
 * Prefer encoded images (`File`, `Blob`, `URL`): UniVi decodes PNG, JPEG, WebP, GIF and BMP itself,
 * exactly and with the orientation that a camera noted; what the browser has decoded has passed
 * through its colour management.
 */
export type Part =
  | string
  | Blob
  | Uint8Array
  | URL
  | ImageData
  | ImageBitmap
  | VideoFrame
  | HTMLImageElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | HTMLVideoElement
  | ClipPart;

/** How far the visual parts of a question have come. */
export interface AskProgress {
  /** `frames`: a clip is decoded; `encode`: parts are encoded; `answer`: the question is read. */
  readonly phase: "frames" | "encode" | "answer";
  /** Frames of this clip, or visual parts, that are done. */
  readonly loaded: number;
  readonly total: number;
}

/** How visual parts are brought to the model. */
export interface VisualOptions {
  /** Stops it. What was said so far of an answer stays part of the conversation. */
  readonly signal?: AbortSignal | undefined;
  /** Gets how far decoding and encoding of the visual parts have come. */
  readonly onProgress?: ((progress: AskProgress) => void) | undefined;
  /**
   * Tokens that a picture, or an event of a clip, is merged to, about: fewer read faster, more keep
   * more detail. As many as the model was trained with by default.
   */
  readonly visualTokens?: number | undefined;
}

/** Encodes one visual part as `visual`, and returns its token map. */
export async function encode(
  client: Client,
  visual: Handle,
  part: Exclude<Part, string>,
  { signal, visualTokens }: VisualOptions,
  onFrame: (loaded: number, total: number) => void,
  onEncode: () => void,
): Promise<TokenMap> {
  const budget = visualTokens === undefined ? {} : { visualTokens };
  const clip = asClip(part);
  if (clip) {
    const { video, ...choice } = clip; // An element or a URL can't cross to the worker.
    await pushFrames(client, visual, video, choice, signal, onFrame);
    onEncode();
    return client.call("encodeClip", { visual, ...budget }, { signal });
  }
  onEncode();
  const image = await asImage(part as Exclude<Part, string | ClipPart>);
  return client.call(
    "encodeImage",
    { visual, image, ...budget },
    { signal, transfer: image.kind === "bitmap" ? [image.bitmap] : [] },
  );
}

function asClip(part: Exclude<Part, string>): ClipPart | undefined {
  if (part instanceof Blob) return part.type.startsWith("video/") ? { video: part } : undefined;
  return "video" in part ? part : undefined;
}

async function asImage(part: Exclude<Part, string | ClipPart>): Promise<ImageSource> {
  if (part instanceof Blob)
    return { kind: "blob", blob: part, name: part instanceof File ? part.name : "image" };
  if (part instanceof Uint8Array)
    return { kind: "blob", blob: new Blob([part as Uint8Array<ArrayBuffer>]), name: "image" };
  if (part instanceof URL) {
    const blob = await runtime.file(part);
    return blob ? { kind: "blob", blob, name: part.pathname } : { kind: "url", url: part.href };
  }
  if (isA("ImageData", part)) {
    const { width, height, data } = part as ImageData;
    return { kind: "pixels", width, height, rgba: data as Uint8ClampedArray<ArrayBuffer> };
  }
  try {
    return { kind: "bitmap", bitmap: await createImageBitmap(part as ImageBitmapSource) };
  } catch (cause) {
    throw new UniviError(
      "bad-image",
      `image: the browser can't read its pixels: ${(cause as Error).message}`,
      { cause },
    );
  }
}
