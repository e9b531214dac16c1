/** The beginning of a clip, before anything decodes it. */
import { HEAD_BYTES } from "../media-type.js";

/**
 * Returns the first {@link HEAD_BYTES} of a file, or all of a shorter one; `undefined` where it
 * can't be read, which decoding or playing it will say. The rest is not read.
 */
export async function firstBytes(
  source: Blob | URL,
  signal: AbortSignal | undefined,
): Promise<Uint8Array | undefined> {
  try {
    const stream =
      source instanceof Blob
        ? source.slice(0, HEAD_BYTES).stream()
        : (await fetch(source, signal ? { signal } : {})).body;
    if (!stream) return undefined;
    const first = new Uint8Array(HEAD_BYTES);
    let length = 0;
    const reader = stream.getReader();
    while (length < HEAD_BYTES) {
      const { value } = await reader.read();
      if (!value) break;
      const piece = value.subarray(0, HEAD_BYTES - length);
      first.set(piece, length);
      length += piece.length;
    }
    void reader.cancel().catch(() => {});
    return first.subarray(0, length);
  } catch {
    signal?.throwIfAborted();
    return undefined;
  }
}
