/** Files of pictures and clips: where they come from, and what they are. */
import { isAnimated } from "./animation.js";
import { localContent, namesClip, shortAddress } from "./address.js";
import { UniviError } from "./error.js";
import { formatFacts, HEAD_BYTES, type MediaFormat, mediaFormat } from "./media-type.js";
import type { MediaBytes, PreparedPart } from "./parts.js";
import type { Client } from "./rpc.js";
import { isA, runtime } from "./runtime.js";
import type { FrameChoice } from "./types.js";

/** A file, and what its content says that it is. */
export interface MediaFile {
  readonly blob: Blob;
  /** What errors call it. */
  readonly name: string;
  readonly format: MediaFormat | undefined;
  /** Whether it is a picture that moves. */
  readonly animated: boolean;
}

/** A visual part whose content is known. */
export type OpenPart =
  | {
      readonly kind: "image";
      readonly source: MediaFile | Exclude<ImageElement, MediaBytes | URL>;
    }
  | {
      readonly kind: "clip";
      readonly source: MediaFile | URL | HTMLVideoElement;
      readonly choice: FrameChoice;
    };

type ImageElement = Extract<PreparedPart, { kind: "image" }>["source"];

/** Bytes that are read to find out whether a picture moves. */
const MAX_ANIMATION_BYTES = 256 << 20;

/** Finds out what a part is. Files are fetched, but for clips from an address. */
export async function openPart(
  client: Client,
  part: Extract<PreparedPart, { kind: "image" | "clip" | "file" }>,
  signal: AbortSignal | undefined,
): Promise<OpenPart> {
  const { kind, source } = part;
  const choice = kind === "clip" ? part.choice : {};
  if (!(source instanceof Blob || source instanceof URL || isBytes(source)))
    return { kind: kind === "clip" ? "clip" : "image", source, choice } as OpenPart;
  if (source instanceof URL && (kind === "clip" || (kind === "file" && namesClip(source)))) {
    const local = (await localContent(source)) ?? (await runtime.file(source));
    if (!local) return { kind: "clip", source, choice };
    return asClip(await mediaFile(local, nameOf(source)), choice);
  }
  const file = await openFile(client, source, signal);
  const asked = kind === "clip" || (kind === "file" && (file.animated || isClip(file)));
  if (asked) return asClip(file, choice);
  refuseOthers(file, "bad-image");
  if (isClip(file))
    throw new UniviError(
      "bad-image",
      `${file.name}: it is a clip (${describe(file)}), not a picture; write { video } instead of { image }`,
    );
  return { kind: "image", source: file };
}

/** Fetches and recognizes a file. */
async function openFile(
  client: Client,
  source: MediaBytes | URL,
  signal: AbortSignal | undefined,
): Promise<MediaFile> {
  if (source instanceof Blob)
    return mediaFile(source, (source instanceof File && source.name) || "file");
  if (isA("Response", source)) return ofResponse(source as Response);
  if (!(source instanceof URL))
    return mediaFile(new Blob([source as Uint8Array<ArrayBuffer>]), "file");
  const local = (await localContent(source)) ?? (await runtime.file(source));
  const blob = local ?? (await client.call("fetchFile", { url: source.href }, { signal }));
  return mediaFile(blob, nameOf(source));
}

async function ofResponse(response: Response): Promise<MediaFile> {
  const name = response.url ? shortAddress(response.url) : "response";
  if (!response.ok && response.status !== 0)
    throw new UniviError("io", `${name}: the server answered ${response.status}`);
  try {
    return await mediaFile(await response.blob(), name);
  } catch (cause) {
    if (cause instanceof UniviError) throw cause;
    const why = response.bodyUsed ? "its body was read already" : (cause as Error).message;
    throw new UniviError(
      "bad-request",
      `${name}: the response can't be read: ${why}; pass a fresh response, or its blob()`,
      { cause },
    );
  }
}

/** Recognizes a file by its content. */
export async function mediaFile(blob: Blob, name: string): Promise<MediaFile> {
  const read = async (bytes: number) => {
    try {
      return new Uint8Array(await blob.slice(0, bytes).arrayBuffer());
    } catch (cause) {
      throw new UniviError(
        "io",
        `${name}: can't be read: ${(cause as Error).message}; was it changed or removed, or is it a proxy of a file?`,
        { cause },
      );
    }
  };
  const head = await read(HEAD_BYTES);
  const format = mediaFormat(head);
  const mayMove = format === "gif" || format === "webp" || format === "png" || format === "avif";
  const animated = mayMove && isAnimated(format, await read(MAX_ANIMATION_BYTES));
  return { blob, name, format, animated };
}

function asClip(file: MediaFile, choice: FrameChoice): OpenPart {
  return { kind: "clip", source: asClipFile(file), choice };
}

/**
 * Returns the file where it may be a clip.
 *
 * @throws UniviError `bad-video` for a picture that does not move, and for what is no video.
 */
export function asClipFile(file: MediaFile): MediaFile {
  refuseOthers(file, "bad-video");
  const { format, animated } = file;
  // A GIF or WebP of one frame is a clip of one frame.
  const isStill = format && formatFacts(format).kind === "picture" && !animated;
  if (isStill && format !== "gif" && format !== "webp")
    throw new UniviError(
      "bad-video",
      `${file.name}: it is a ${describe(file)}, not a clip; write { image } instead of { video }`,
    );
  return file;
}

function refuseOthers(file: MediaFile, code: "bad-image" | "bad-video"): void {
  if (file.blob.size === 0) throw new UniviError(code, `${file.name}: it is empty`);
  const kind = file.format && formatFacts(file.format).kind;
  if (kind === "sound" || kind === "other")
    throw new UniviError(code, `${file.name}: it is a ${describe(file)}, no picture or clip`);
}

/** The content decides; where it is not known, the type does. */
function isClip({ format, blob }: MediaFile): boolean {
  return format ? formatFacts(format).kind === "clip" : /^video\//i.test(blob.type);
}

/** What a file is, for people. */
export function describe({ format, blob }: MediaFile): string {
  if (format) return formatFacts(format).name;
  return blob.type ? `file of type ${blob.type}` : "file of an unknown type";
}

function nameOf(url: URL): string {
  return shortAddress(url.protocol === "file:" ? url.pathname : url.href);
}

function isBytes(source: unknown): source is Exclude<MediaBytes, Blob> {
  return source instanceof Uint8Array || source instanceof ArrayBuffer || isA("Response", source);
}
