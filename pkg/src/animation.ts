/** Whether a picture moves, by its structure. */
import type { MediaFormat } from "./media-type.js";

/**
 * Returns whether a picture of this format has more than one frame. `bytes` is the whole file; of a
 * damaged one, what can be read counts.
 */
export function isAnimated(format: MediaFormat, bytes: Uint8Array): boolean {
  switch (format) {
    case "gif":
      return gifFrames(bytes) > 1;
    case "webp":
      return webpFrames(bytes) > 1;
    case "png":
      return pngFrames(bytes) > 1;
    case "avif":
      return String.fromCharCode(...bytes.subarray(8, 12)) === "avis";
    default:
      return false;
  }
}

/** Counts up to two frames of a GIF: blocks from the end of the global colours on. */
function gifFrames(bytes: Uint8Array): number {
  const colours = (flags: number) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
  let at = 13 + colours(bytes[10] ?? 0);
  const skipBlocks = () => {
    while (at < bytes.length && bytes[at] !== 0) at += bytes[at]! + 1;
    at += 1;
  };
  let frames = 0;
  while (at < bytes.length && frames < 2) {
    if (bytes[at] === 0x21) {
      at += 2;
      skipBlocks();
    } else if (bytes[at] === 0x2c) {
      frames += 1;
      at += 11 + colours(bytes[at + 9] ?? 0);
      skipBlocks();
    } else {
      break; // The trailer.
    }
  }
  return frames;
}

/** Counts up to two `ANMF` chunks of a WebP. */
function webpFrames(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let frames = 0;
  for (let at = 12; at + 8 <= bytes.length && frames < 2; ) {
    if (String.fromCharCode(...bytes.subarray(at, at + 4)) === "ANMF") frames += 1;
    const size = view.getUint32(at + 4, true);
    at += 8 + size + (size & 1);
  }
  return frames;
}

/** Returns the frames that an animated PNG announces before its first picture. */
function pngFrames(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === "acTL") return view.getUint32(at + 8);
    if (type === "IDAT") break;
  }
  return 1;
}
