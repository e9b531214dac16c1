/** Bytes of a clip beside what its demuxer reads: its beginning, and parts of it. */
import { HEAD_BYTES } from "../media-type.js";

/**
 * Reads bytes `from` to before `to`; fewer where the file ends before, none where it can't be
 * read, which decoding or playing it will say.
 */
export type Bytes = (from: number, to: number) => Promise<Uint8Array>;

/** Returns how bytes of `source` are read. */
export function bytesOf(source: Blob | URL, signal: AbortSignal | undefined): Bytes {
  return async (from, to) => {
    try {
      if (source instanceof Blob) return await upTo(source.slice(from, to).stream(), 0, to - from);
      // The beginning is asked for as players do: some servers know of no ranges.
      const headers = { range: `bytes=${from}-${to - 1}` };
      const request = { ...(from > 0 && { headers }), ...(signal && { signal }) };
      const response = await fetch(source, request);
      if (!response.ok || !response.body) return new Uint8Array();
      const skipped = response.status === 206 ? 0 : from;
      return await upTo(response.body, skipped, to - from);
    } catch {
      signal?.throwIfAborted();
      return new Uint8Array();
    }
  };
}

/** Returns the first {@link HEAD_BYTES} of a file, or all of a shorter one. */
export function firstBytes(
  source: Blob | URL,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  return bytesOf(source, signal)(0, HEAD_BYTES);
}

/** The `length` bytes of a stream behind the first `skipped`; the rest is not read. */
async function upTo(
  stream: ReadableStream<Uint8Array>,
  skipped: number,
  length: number,
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  const reader = stream.getReader();
  let [before, missing] = [skipped, length];
  while (missing > 0) {
    const { value } = await reader.read();
    if (!value) break;
    const piece = value.subarray(before, before + missing);
    before = Math.max(before - value.length, 0);
    pieces.push(piece);
    missing -= piece.length;
  }
  void reader.cancel().catch(() => {});
  const bytes = new Uint8Array(length - missing);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}
