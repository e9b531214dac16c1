/** What a question is made of: the parts that users pass, copied and told apart. */
import { addressKind, shortAddress } from "./address.js";
import type { Handle } from "./calls.js";
import { UniviError } from "./error.js";
import {
  callback,
  type Checks,
  copyOptions,
  isIterable,
  number,
  signal,
  string,
  wrong,
} from "./options.js";
import { isA, runtime } from "./runtime.js";
import type { FrameChoice } from "./types.js";

/** The bytes of a file. */
export type MediaBytes = Blob | ArrayBuffer | Uint8Array | Response;

/**
 * Where a picture comes from: an encoded file (`File`, `Blob`, bytes, `Response`), its address (a
 * `URL`, or a string that is resolved against the page; in Node, Deno and Bun also a path), or
 * something that can be drawn. A `<video>` gives its current frame, an animation its first one.
 */
export type ImageSource =
  | MediaBytes
  | URL
  | string
  | ImageData
  | ImageBitmap
  | VideoFrame
  | HTMLImageElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | HTMLVideoElement;

/**
 * Where a clip comes from: an encoded file, its address, or an element that plays it. A file may be
 * an animated GIF, WebP, AVIF or PNG, too.
 */
export type ClipSource = MediaBytes | URL | string | HTMLVideoElement;

/** Words. */
export interface TextPart {
  readonly text: string;
}

/** One picture. Of an animation only the first frame is taken, and the answer has a warning. */
export interface ImagePart {
  readonly image: ImageSource;
}

/** A clip, and which of its frames to encode. */
export interface ClipPart extends FrameChoice {
  readonly video: ClipSource;
}

/**
 * One part of a question:
 *
 * - a `string` or `{ text }` is text;
 * - `{ image }` is a picture, `{ video, startSeconds, .. }` a clip;
 * - a file (`File`, `Blob`, bytes, `Response`, `URL`) is what its content says: a picture, or a
 *   clip where it is a video or an animation;
 * - a `FileList` is all of its files;
 * - anything that can be drawn is a picture, a `<video>` its current frame.
 *
 * A plain string is never an address: one that looks like it is refused, so that no question is
 * answered without its picture.
 *
 * Prefer encoded pictures to drawn ones: UniVi decodes PNG, JPEG, WebP, GIF and BMP itself, exactly
 * and with the orientation that a camera noted. What the browser has decoded has passed through its
 * colour management; other formats go through the browser where it has them, such as AVIF and SVG.
 */
export type Part =
  | string
  | TextPart
  | ImagePart
  | ClipPart
  | Exclude<ImageSource, string>
  | FileList;

/** A part as it was copied. */
export type PreparedPart =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "encoded"; readonly visual: Handle }
  | { readonly kind: "image"; readonly source: Exclude<ImageSource, string> }
  | {
      readonly kind: "clip";
      readonly source: Exclude<ClipSource, string>;
      readonly choice: FrameChoice;
    }
  /** A picture or a clip: its content decides. */
  | { readonly kind: "file"; readonly source: MediaBytes | URL };

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

/** The checks of {@link VisualOptions}. */
export const VISUAL: Checks<VisualOptions> = {
  signal,
  onProgress: callback<(progress: AskProgress) => void>(),
  visualTokens: number,
};

const TEXT: Checks<TextPart> = { text: string };
const IMAGE: Checks<ImagePart> = { image: (source) => source as ImageSource };
const CLIP: Checks<ClipPart> = {
  video: (source) => source as ClipSource,
  startSeconds: number,
  endSeconds: number,
  frameRate: number,
  maxFrames: number,
};

/**
 * Copies the parts of a question, and tells them apart. Nothing of them is read yet.
 *
 * @throws UniviError `bad-request` that says which part is wrong, and what to pass instead.
 */
export function prepareParts(parts: unknown): readonly PreparedPart[] {
  if (typeof parts === "string" || !isIterable(parts) || isBytes(parts))
    return prepared(parts, "the question");
  return [...parts].flatMap((part, i) => prepared(part, `part ${i}`));
}

function prepared(part: unknown, name: string): readonly PreparedPart[] {
  if (typeof part === "string") return [{ kind: "text", text: notAddress(part) }];
  if (isBytes(part)) return [{ kind: "file", source: copyOfBytes(part) }];
  if (part instanceof URL) return [{ kind: "file", source: new URL(part.href) }];
  if (isA("FileList", part)) return [...(part as FileList)].flatMap((file) => prepared(file, name));
  if (isDrawable(part)) return [{ kind: "image", source: part }];
  if (typeof part === "object" && part !== null) {
    // A `type` beside it is how others mark their parts.
    const { type: _type, ...fields } = part as Record<string, unknown>;
    const present = (field: string) => (fields[field] ?? undefined) !== undefined;
    if (present("text"))
      return [{ kind: "text", text: copyOptions(fields, TEXT, "{ text }").text }];
    if (present("image")) return [prepareImage(copyOptions(fields, IMAGE, "{ image }").image)];
    if (present("video")) return [prepareClip(fields)];
    const empty = ["text", "image", "video"].find((field) => field in fields);
    if (empty) throw wrong(`${name}.${empty}`, "something to show or to say", fields[empty]);
  }
  throw wrong(name, "text, a picture, a clip, { text }, { image } or { video }", part);
}

/** Prepares what is known to be a picture. */
export function prepareImage(source: unknown): PreparedPart {
  if (isBytes(source)) return { kind: "image", source: copyOfBytes(source) };
  if (typeof source === "string" || source instanceof URL)
    return { kind: "image", source: resolved(source, "image") };
  if (isA("FileList", source))
    return { kind: "image", source: onlyFile(source as FileList, "image") };
  if (isDrawable(source)) return { kind: "image", source };
  throw wrong(
    "image",
    "a File, Blob, Response, bytes, URL, address, or something that can be drawn",
    source,
  );
}

/** Prepares a clip and its choice of frames. */
export function prepareClip(fields: object): PreparedPart {
  const { video: source, ...choice } = copyOptions<{ video?: unknown } & FrameChoice>(
    fields,
    CLIP,
    "{ video }",
  );
  if (isBytes(source)) return { kind: "clip", source: copyOfBytes(source), choice };
  if (typeof source === "string" || source instanceof URL)
    return { kind: "clip", source: resolved(source, "video"), choice };
  if (isA("FileList", source))
    return { kind: "clip", source: onlyFile(source as FileList, "video"), choice };
  if (isA("HTMLVideoElement", source))
    return { kind: "clip", source: source as HTMLVideoElement, choice };
  throw wrong("video", "a File, Blob, Response, bytes, URL, address, or <video> element", source);
}

function notAddress(text: string): string {
  const kind = addressKind(text);
  if (kind === undefined) return text;
  const quoted = JSON.stringify(shortAddress(text.trim()));
  throw new UniviError(
    "bad-request",
    `${quoted} looks like the address of a ${kind === "image" ? "picture" : "clip"}, but a string is text: write { ${kind}: ${quoted} } to show it, or { text: ${quoted} } to ask about these words`,
  );
}

function resolved(address: string | URL, name: string): URL {
  try {
    return typeof address === "string" ? runtime.url(address) : new URL(address.href);
  } catch (cause) {
    throw new UniviError(
      "bad-request",
      `${name}: ${JSON.stringify(shortAddress(String(address)))} is no address: ${(cause as Error).message}`,
      { cause },
    );
  }
}

function onlyFile(files: FileList, name: string): File {
  const [file] = files;
  if (!file || files.length > 1)
    throw new UniviError(
      "bad-request",
      `${name} is a list of ${files.length} files, expected one; pass several as parts of their own`,
    );
  return file;
}

function isBytes(value: unknown): value is Blob | ArrayBuffer | ArrayBufferView | Response {
  return (
    value instanceof Blob ||
    value instanceof ArrayBuffer ||
    ArrayBuffer.isView(value) ||
    isA("SharedArrayBuffer", value) ||
    isA("Response", value)
  );
}

/** Bytes may be overwritten after the call, so they are copied; files and responses can't be. */
function copyOfBytes(source: Blob | ArrayBuffer | ArrayBufferView | Response): MediaBytes {
  if (source instanceof Blob || isA("Response", source)) {
    try {
      void (source instanceof Blob ? source.size : (source as Response).status);
    } catch {
      throw wrong("a file", "the File, Blob or Response itself, not a proxy of it", source);
    }
    return source as Blob | Response;
  }
  const view = ArrayBuffer.isView(source)
    ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
    : new Uint8Array(source as ArrayBuffer);
  return view.slice();
}

const DRAWABLE = [
  "ImageData",
  "ImageBitmap",
  "VideoFrame",
  "HTMLImageElement",
  "SVGImageElement",
  "HTMLCanvasElement",
  "OffscreenCanvas",
  "HTMLVideoElement",
] as const;

type Drawable = Exclude<ImageSource, string | URL | MediaBytes>;

function isDrawable(value: unknown): value is Drawable {
  return DRAWABLE.some((name) => isA(name, value));
}
