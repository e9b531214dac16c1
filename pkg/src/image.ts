/** Pictures on their way to the model: encoded where UniVi decodes them, else their pixels. */
import type { SentImage } from "./calls.js";
import { UniviError } from "./error.js";
import { describe, type MediaFile } from "./media.js";
import { isA } from "./runtime.js";

/** Something that is drawn rather than decoded. */
export type Drawable =
  | ImageData
  | ImageBitmap
  | VideoFrame
  | HTMLImageElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | HTMLVideoElement;

/** Formats that UniVi decodes. */
const DECODED = ["png", "jpeg", "webp", "gif", "bmp"];

/** Returns a picture as it crosses to the worker. `warn` gets what of it is left out. */
export async function sentImage(
  source: MediaFile | Drawable,
  signal: AbortSignal | undefined,
  warn: (text: string) => void,
): Promise<SentImage> {
  if ("format" in source && "animated" in source) return ofFile(source, warn);
  if (isA("ImageData", source)) {
    const { width, height, data } = source as ImageData;
    return { kind: "pixels", width, height, rgba: new Uint8ClampedArray(data) };
  }
  if (isA("HTMLImageElement", source)) await loaded(source as HTMLImageElement, signal);
  const isVideo = isA("HTMLVideoElement", source);
  if (isVideo) await hasFrame(source as HTMLVideoElement, signal);
  try {
    const bitmap = isVideo
      ? currentFrame(source as HTMLVideoElement)
      : createImageBitmap(source as ImageBitmapSource);
    return { kind: "bitmap", bitmap: await bitmap };
  } catch (cause) {
    throw new UniviError(
      "bad-image",
      `image: the browser can't read its pixels: ${(cause as Error).message}`,
      { cause },
    );
  }
}

async function ofFile(file: MediaFile, warn: (text: string) => void): Promise<SentImage> {
  const { blob, name, format, animated } = file;
  if (animated)
    warn(
      `${name}: only its first frame was taken, since it was given as an image; write { video } for all of the animation`,
    );
  if (format && DECODED.includes(format)) return { kind: "blob", blob, name };
  if (format === "svg") return { kind: "bitmap", bitmap: await drawnSvg(file) };
  if ("createImageBitmap" in globalThis) {
    try {
      return { kind: "bitmap", bitmap: await createImageBitmap(blob) };
    } catch {
      // Named below.
    }
  }
  throw undecodable(file);
}

function undecodable(file: MediaFile, why = ""): UniviError {
  const where = globalThis.document ? "this browser" : "this runtime";
  return new UniviError(
    "bad-image",
    file.format === undefined
      ? `${file.name}: it is a ${describe(file)}, which neither UniVi nor ${where} can decode; PNG, JPEG, WebP, GIF and BMP work everywhere`
      : `${file.name}: it is a ${describe(file)}, which ${where} can't decode${why}; convert it to PNG or JPEG`,
  );
}

/** An SVG through an `<img>`, at the size that it asks for. */
async function drawnSvg(file: MediaFile): Promise<ImageBitmap> {
  if (!globalThis.document) throw undecodable(file);
  const url = URL.createObjectURL(new Blob([file.blob], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    image.src = url;
    await image.decode().catch(() => {
      throw undecodable(
        file,
        ': it is damaged, or this page\'s content security policy lacks "img-src blob:"',
      );
    });
    if (image.naturalWidth === 0 || image.naturalHeight === 0)
      throw undecodable(file, " without a size: give it a width and a height");
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    canvas.getContext("2d")!.drawImage(image, 0, 0);
    return await createImageBitmap(canvas);
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Waits until an `<img>` has its picture. */
async function loaded(image: HTMLImageElement, signal: AbortSignal | undefined): Promise<void> {
  if (image.complete && image.naturalWidth > 0) return;
  if (!image.currentSrc && !image.getAttribute("src") && !image.getAttribute("srcset"))
    throw new UniviError("bad-image", "image: the <img> has no src");
  // One that is lazy may never be loaded where nobody scrolls to it.
  if (!image.complete && image.loading === "lazy") image.loading = "eager";
  await orAborted(image.decode(), signal).catch((cause: unknown) => {
    signal?.throwIfAborted();
    throw new UniviError(
      "bad-image",
      `image: the <img> has not loaded ${image.currentSrc.slice(0, 100)}: is it there, and a picture?`,
      { cause },
    );
  });
}

/** Milliseconds that a `<video>` may take to paint a frame that it has. */
const PAINT_MS = 1000;

/** Returns the current frame of a `<video>`. One that has never played has to paint it first. */
export async function currentFrame(video: HTMLVideoElement): Promise<ImageBitmap> {
  try {
    return await createImageBitmap(video);
  } catch {
    await new Promise<void>((resolve) => {
      video.requestVideoFrameCallback?.(() => resolve());
      setTimeout(resolve, PAINT_MS);
    });
    return createImageBitmap(video);
  }
}

/** Milliseconds that a `<video>` may take to have a picture. */
const FRAME_MS = 10_000;

/** Waits until a `<video>` has a picture. */
async function hasFrame(video: HTMLVideoElement, signal: AbortSignal | undefined): Promise<void> {
  if (video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) return;
  const frame = new Promise<void>((resolve, reject) => {
    video.addEventListener("loadeddata", () => resolve(), { once: true });
    video.addEventListener("error", () => reject(new Error("it failed")), { once: true });
    setTimeout(() => reject(new Error("none came")), FRAME_MS);
  });
  await orAborted(frame, signal).catch((cause: unknown) => {
    signal?.throwIfAborted();
    throw new UniviError(
      "bad-image",
      "image: the <video> has no picture yet; wait for its event loadeddata",
      { cause },
    );
  });
}

function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  return new Promise((resolve, reject) => {
    work.then(resolve, reject);
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
