/** A clip from an animated picture that only the browser decodes: AVIF, PNG. */
import { UniviError } from "../error.js";
import { describe, type MediaFile } from "../media.js";
import type { OpenClip } from "./open-clip.js";
import { RATE_FRAMES, ROUNDING_SECONDS } from "./timing.js";

const TYPES: Readonly<Record<string, string>> = { avif: "image/avif", png: "image/png" };

/**
 * Opens an animated picture.
 *
 * @throws UniviError `bad-video` where the browser can't decode it, or the reason of an aborted
 * `signal`.
 */
export async function openPictures(
  file: MediaFile,
  signal: AbortSignal | undefined,
): Promise<OpenClip> {
  const type = TYPES[file.format ?? ""] ?? "";
  const fail = (why: string, cause?: unknown) =>
    new UniviError(
      "bad-video",
      `${file.name}: its animation (${describe(file)}) can't be decoded here${why}; convert it to GIF, WebP, MP4 or WebM, or write { image } for its first frame`,
      { cause },
    );
  if (!globalThis.ImageDecoder || !(await ImageDecoder.isTypeSupported(type))) throw fail("");
  const decoder = new ImageDecoder({ data: await file.blob.arrayBuffer(), type });
  const frameAt = async (frameIndex: number) => (await decoder.decode({ frameIndex })).image;
  try {
    await decoder.tracks.ready;
    await decoder.completed;
    const count = decoder.tracks.selectedTrack?.frameCount ?? 0;
    const ends: number[] = [];
    for (let index = 0; index < count; index++) {
      signal?.throwIfAborted();
      const frame = await frameAt(index);
      ends.push((frame.timestamp + (frame.duration ?? 0)) / 1e6);
      frame.close();
    }
    return {
      timing: {
        firstSeconds: [0, ...ends.slice(0, -1)].slice(0, RATE_FRAMES),
        lastSeconds: ends.at(-2) ?? 0,
        endSeconds: ends.at(-1) ?? 0,
      },
      async *frames(timesSeconds) {
        for (const time of timesSeconds) {
          const index = ends.findIndex((end) => time + ROUNDING_SECONDS < end);
          const frame = await frameAt(index < 0 ? count - 1 : index);
          try {
            yield { kind: "bitmap", bitmap: await createImageBitmap(frame) };
          } finally {
            frame.close();
          }
        }
      },
      close: () => decoder.close(),
    };
  } catch (cause) {
    decoder.close();
    signal?.throwIfAborted();
    throw fail(`: ${(cause as Error).message}`, cause);
  }
}
