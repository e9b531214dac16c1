/** Pictures as data URLs, which a request for a completion carries. */
import type { SentImage } from "../calls.js";
import { HEAD_BYTES, mediaFormat } from "../media-type.js";

/** The quality of a clip's frames as JPEG. */
const FRAME_QUALITY = 0.95;

/** Bytes that are turned into characters at once; more arguments overflow the stack. */
const CHUNK_BYTES = 0x8000;

/** Returns bytes as base64. */
export function base64(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES)
    text += String.fromCharCode(...bytes.subarray(at, at + CHUNK_BYTES));
  return btoa(text);
}

/** Returns a file as a data URL, of the type that its content says. */
export async function fileUrl(blob: Blob, kind: "image" | "video"): Promise<string> {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const format = mediaFormat(bytes.subarray(0, HEAD_BYTES));
  const type = format ? `image/${format}` : blob.type || `${kind}/*`;
  return `data:${type};base64,${base64(bytes)}`;
}

/** Returns a picture as a data URL: a file as it is, pixels as PNG. */
export async function imageUrl(image: SentImage): Promise<string> {
  if (image.kind === "blob") return fileUrl(image.blob, "image");
  const blob = await drawn(image, { type: "image/png" });
  return `data:image/png;base64,${base64(new Uint8Array(await blob.arrayBuffer()))}`;
}

/** Returns a frame of a clip as JPEG; where nothing here encodes that, as PNG. */
export async function frameBytes(
  frame: Extract<SentImage, { kind: "bitmap" | "pixels" }>,
): Promise<Uint8Array> {
  const blob = await drawn(frame, { type: "image/jpeg", quality: FRAME_QUALITY });
  return new Uint8Array(await blob.arrayBuffer());
}

async function drawn(
  image: Extract<SentImage, { kind: "bitmap" | "pixels" }>,
  options: ImageEncodeOptions,
): Promise<Blob> {
  if (image.kind === "pixels" && typeof OffscreenCanvas === "undefined") return png(image);
  const { width, height } = image.kind === "pixels" ? image : image.bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d")!;
  if (image.kind === "pixels") {
    context.putImageData(new ImageData(image.rgba, width, height), 0, 0);
  } else {
    context.drawImage(image.bitmap, 0, 0);
    image.bitmap.close();
  }
  return canvas.convertToBlob(options);
}

/** Writes pixels as PNG, for runtimes without a canvas. */
async function png({ width, height, rgba }: Extract<SentImage, { kind: "pixels" }>): Promise<Blob> {
  const rows = new Uint8Array(height * (1 + 4 * width)); // Each begins with its filter: none.
  for (let y = 0; y < height; y++)
    rows.set(rgba.subarray(4 * width * y, 4 * width * (y + 1)), y * (1 + 4 * width) + 1);
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 6], 8); // Eight bits each of red, green, blue and alpha.
  return new Blob([
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
    pngChunk("IHDR", header),
    pngChunk("IDAT", new Uint8Array(await new Response(packed).arrayBuffer())),
    pngChunk("IEND", new Uint8Array()),
  ]);
}

function pngChunk(type: string, content: Uint8Array): Uint8Array<ArrayBuffer> {
  const chunk = new Uint8Array(12 + content.length);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, content.length);
  chunk.set(new TextEncoder().encode(type), 4);
  chunk.set(content, 8);
  view.setUint32(8 + content.length, crc32(chunk.subarray(4, 8 + content.length)));
  return chunk;
}

function crc32(bytes: Uint8Array): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
