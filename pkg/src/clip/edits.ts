/**
 * Edit lists of MP4 files: which parts of a track are shown, in which order. The demuxer applies
 * the beginning of the first part; what ends early, or has several parts, is mapped here.
 */
import type { Bytes } from "./bytes.js";

/** A longer header of boxes is not read: it would take a film of days. */
const MAX_MOVIE_BYTES = 64 << 20;
const MAX_EDITS = 4096;

/** A part of a track. */
export interface Edit {
  /** When it is shown first, in seconds of the clip. */
  readonly beginSeconds: number;
  /** How long it is shown; infinite where the list does not say. */
  readonly lengthSeconds: number;
  /** Where it begins, in seconds of the track as the demuxer counts them. */
  readonly trackSeconds: number;
}

/** Returns the parts of the track `id`; undefined where there is no list, or it can't be read. */
export async function readEdits(
  bytes: Bytes,
  head: Uint8Array,
  id: number,
): Promise<readonly Edit[] | undefined> {
  try {
    const movie = await movieBox(bytes, head);
    return movie && editsOf(movie, id);
  } catch (error) {
    if (error instanceof RangeError) return undefined; // A length that leads out of its box.
    throw error;
  }
}

/** The content of the box `moov`. */
async function movieBox(bytes: Bytes, head: Uint8Array): Promise<DataView | undefined> {
  for (let at = 0; ; ) {
    const header = at + 16 <= head.length ? head.subarray(at, at + 16) : await bytes(at, at + 16);
    if (header.length < 8) return undefined;
    const [box] = boxesOf(view(header), true);
    if (!box) return undefined;
    if (box.type !== "moov") {
      at += box.length;
      continue;
    }
    if (box.length > MAX_MOVIE_BYTES) return undefined;
    const whole = await bytes(at + box.headerLength, at + box.length);
    return view(whole);
  }
}

interface Box {
  readonly type: string;
  /** In bytes, with its header. */
  readonly length: number;
  readonly headerLength: number;
  readonly content: DataView;
}

/** The boxes that follow each other; `cut` where only the header of the first is there. */
function* boxesOf(bytes: DataView, cut = false): Generator<Box> {
  for (let at = 0; at + 8 <= bytes.byteLength; ) {
    let length = bytes.getUint32(at);
    const type = String.fromCharCode(...[4, 5, 6, 7].map((byte) => bytes.getUint8(at + byte)));
    let headerLength = 8;
    if (length === 1) {
      length = Number(bytes.getBigUint64(at + 8));
      headerLength = 16;
    } else if (length === 0 && !cut) {
      length = bytes.byteLength - at; // To the end.
    }
    if (length < headerLength) return;
    const content = cut
      ? new DataView(bytes.buffer, bytes.byteOffset + at, 0)
      : new DataView(bytes.buffer, bytes.byteOffset + at + headerLength, length - headerLength);
    yield { type, length, headerLength, content };
    at += length;
  }
}

/** The content of the first box below `bytes` that lies at `path`. */
function boxAt(bytes: DataView, ...path: string[]): DataView | undefined {
  const [type, ...rest] = path;
  if (type === undefined) return bytes;
  for (const box of boxesOf(bytes)) if (box.type === type) return boxAt(box.content, ...rest);
  return undefined;
}

/** The content of the box of the track `id`. */
function trackBox(movie: DataView, id: number): DataView | undefined {
  for (const { type, content } of boxesOf(movie)) {
    const header = type === "trak" ? boxAt(content, "tkhd") : undefined;
    if (header?.getUint32(header.getUint8(0) === 1 ? 20 : 12) === id) return content;
  }
  return undefined;
}

function editsOf(movie: DataView, id: number): readonly Edit[] | undefined {
  const track = trackBox(movie, id);
  const list = track && boxAt(track, "edts", "elst");
  const [movieHeader, mediaHeader] = [boxAt(movie, "mvhd"), track && boxAt(track, "mdia", "mdhd")];
  if (!list || !movieHeader || !mediaHeader) return undefined;
  const [movieRate, mediaRate] = [unitsPerSecond(movieHeader), unitsPerSecond(mediaHeader)];

  const long = list.getUint8(0) === 1;
  const count = list.getUint32(4);
  if (count > MAX_EDITS) return undefined;
  const edits: Edit[] = [];
  let [beginSeconds, demuxerBegin] = [0, 0];
  for (let index = 0; index < count; index++) {
    const at = 8 + index * (long ? 20 : 12);
    const units = long ? Number(list.getBigUint64(at)) : list.getUint32(at);
    const media = long ? Number(list.getBigInt64(at + 8)) : list.getInt32(at + 4);
    // A last part without a length goes on to the end, as that of a file in fragments.
    const endless = units === 0 && index === count - 1;
    const lengthSeconds = endless ? Number.POSITIVE_INFINITY : units / movieRate;
    if (media >= 0) {
      const mediaSeconds = media / mediaRate;
      // The demuxer lets the first part begin when it is shown, and knows of no other; it leaves
      // the track as it is where that part has another speed, which decoders ignore.
      const speed = list.getInt32(at + (long ? 16 : 8));
      if (edits.length === 0 && speed === 1 << 16) demuxerBegin = mediaSeconds - beginSeconds;
      edits.push({ beginSeconds, lengthSeconds, trackSeconds: mediaSeconds - demuxerBegin });
    }
    beginSeconds += lengthSeconds;
  }
  return edits;
}

/** The time scale of `mvhd` or `mdhd`. */
function unitsPerSecond(header: DataView): number {
  return header.getUint32(header.getUint8(0) === 1 ? 20 : 12) || 1;
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
