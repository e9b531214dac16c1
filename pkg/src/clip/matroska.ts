/**
 * Whether a Matroska file is whole: one that broke off still states the length that was planned.
 */

const EBML = 0x1a45dfa3;
const SEGMENT = 0x18538067;

/**
 * Where the segment of a file ends, in bytes, from its first bytes; undefined where the file
 * doesn't say, as one that was recorded live. As `segment_end` in
 * `crates/cli/src/video/matroska.rs`.
 */
export function segmentEnd(head: Uint8Array): number | undefined {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  let position = 0;
  /** The element's length, or undefined where it is unknown. */
  const size = (): number | undefined => {
    const first = view.getUint8(position);
    if (first === 0) return undefined; // Longer than eight bytes, which no file has.
    const bytes = Math.clz32(first) - 23;
    let value = BigInt(first) & ((1n << BigInt(8 - bytes)) - 1n);
    for (let index = 1; index < bytes; index++)
      value = (value << 8n) | BigInt(view.getUint8(position + index));
    position += bytes;
    return value === (1n << BigInt(7 * bytes)) - 1n ? undefined : Number(value);
  };
  try {
    if (view.getUint32(position) !== EBML) return undefined;
    position += 4;
    const header = size();
    if (header === undefined) return undefined;
    position += header;
    if (view.getUint32(position) !== SEGMENT) return undefined;
    position += 4;
    const length = size();
    return length === undefined ? undefined : position + length;
  } catch {
    return undefined; // A size that leads out of the head.
  }
}
