/**
 * Matroska files that broke off: they still state the length that was planned, and so does their
 * last cluster.
 */

const EBML = 0x1a45dfa3;
const SEGMENT = 0x18538067;
const CLUSTER = 0x1f43b675;
const SIMPLE_BLOCK = 0xa3;
const BLOCK_GROUP = 0xa0;

/** No header of an element is longer: four bytes of an id, eight of a size. */
const ELEMENT_HEADER_BYTES = 12;

/** The header of an element; positions are in bytes. */
interface ElementHeader {
  readonly id: number;
  readonly sizeAt: number;
  readonly dataAt: number;
  /** Where the element ends; undefined where its size is unknown, as in what is recorded live. */
  readonly end: number | undefined;
}

/** The header of the element at `at`; `bytes` begin at `base` of the file. */
function elementHeader(bytes: Uint8Array, at: number, base = 0): ElementHeader | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  /** A number whose leading zeros say how many bytes it has. */
  const number = (position: number) => {
    const first = view.getUint8(position);
    const length = Math.clz32(first) - 23;
    let value = BigInt(first);
    for (let index = 1; index < length; index++)
      value = (value << 8n) | BigInt(view.getUint8(position + index));
    return { length, value };
  };
  try {
    const id = number(at - base);
    const sizeAt = at + id.length;
    const size = number(sizeAt - base);
    if (id.length > 4 || size.length > 8) return undefined;
    const dataAt = sizeAt + size.length;
    const all = (1n << BigInt(7 * size.length)) - 1n;
    const bytesOfData = size.value & all;
    const end = bytesOfData === all ? undefined : dataAt + Number(bytesOfData);
    return { id: Number(id.value), sizeAt, dataAt, end };
  } catch {
    return undefined; // A header that leads out of the bytes.
  }
}

/** The header of the segment, from the first bytes of a file. */
function segmentHeader(head: Uint8Array): ElementHeader | undefined {
  const header = elementHeader(head, 0);
  if (header?.id !== EBML || header.end === undefined) return undefined;
  const segment = elementHeader(head, header.end);
  return segment?.id === SEGMENT ? segment : undefined;
}

/**
 * Where the segment of a file ends, in bytes, from its first bytes; undefined where the file
 * doesn't say, as one that was recorded live. As `segment_end` in
 * `crates/cli/src/video/matroska.rs`.
 */
export function segmentEnd(head: Uint8Array): number | undefined {
  return segmentHeader(head)?.end;
}

/**
 * Returns a file that broke off with a last cluster that ends behind its last whole block: a
 * demuxer reads clusters as a whole. No more than headers is read.
 */
export async function withoutCutBlock(file: Blob, head: Uint8Array): Promise<Blob> {
  const headerAt = async (at: number) => {
    const bytes = await file.slice(at, at + ELEMENT_HEADER_BYTES).arrayBuffer();
    return elementHeader(new Uint8Array(bytes), at, at);
  };
  const segment = segmentHeader(head);
  for (let at = segment?.dataAt ?? file.size; at < file.size; ) {
    const element = await headerAt(at);
    if (element?.end === undefined) return file;
    if (element.end <= file.size) {
      at = element.end;
      continue;
    }
    if (element.id !== CLUSTER) return file;
    const { sizeAt, dataAt } = element;
    let [end, blocks] = [dataAt, 0];
    for (;;) {
      const child = await headerAt(end);
      if (child?.end === undefined || child.end > file.size) break;
      if (child.id === SIMPLE_BLOCK || child.id === BLOCK_GROUP) blocks += 1;
      end = child.end;
    }
    if (blocks === 0) return file;
    const size = sizeBytes(end - dataAt, dataAt - sizeAt);
    return new Blob([file.slice(0, sizeAt), size, file.slice(dataAt, end)], { type: file.type });
  }
  return file;
}

/** A size as an element's header states it in so many bytes. */
function sizeBytes(size: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let rest = BigInt(size) | (1n << BigInt(7 * length));
  for (let index = length - 1; index >= 0; index--, rest >>= 8n) bytes[index] = Number(rest & 255n);
  return bytes;
}
