/** When the frames of a clip are shown: what its sampled moments are chosen from. */
import { UniviError } from "../error.js";
import type { ClipTiming } from "../types.js";
import type { EncodedPacketSink, InputVideoTrack } from "./demuxer.js";
import type { Edit } from "./edits.js";

/** As `RATE_FRAMES` in `crates/core/src/frames.rs`. */
export const RATE_FRAMES = 256;

/** As `MAX_FRAMES` in `crates/cli/src/video/ffmpeg.rs`: a day at 50 frames per second. */
const MAX_FRAMES = 24 * 3600 * 50;

/** Frames are stored in another order than they are shown in, but not farther apart. */
const REORDERED_FRAMES = 32;

/** As `TIME_ROUNDING_S` in `crates/core/src/frames.rs`: Matroska counts milliseconds. */
export const ROUNDING_SECONDS = 0.0006;

const metadataOnly = { metadataOnly: true };

/** A track's timing, and where its frames stand in the time of the track. */
export interface TrackTiming {
  readonly timing: ClipTiming;
  /** The time in the track of what is shown at `seconds`. */
  trackSeconds(seconds: number): number;
}

/**
 * Reads the timing of a track. What lies before 0 was cut away, unless all of it does; `edits`,
 * where there are any, say what else is shown.
 *
 * Containers of other formats than MP4 don't store how long their last frame stays; Matroska says
 * when the whole ends, which is `endSeconds` where the track is alone in it.
 */
export async function trackTiming(
  track: InputVideoTrack,
  packets: EncodedPacketSink,
  container: {
    readonly name: string;
    readonly storesDurations: boolean;
    readonly endSeconds: number | undefined;
    readonly edits: readonly Edit[] | undefined;
  },
): Promise<TrackTiming> {
  const last = await packets.getPacket(Number.POSITIVE_INFINITY, metadataOnly);
  const { edits } = container;
  if (edits && last && !isWhole(edits, last.timestamp)) {
    const edited = await editedTiming(container.name, packets, edits);
    if (edited) return edited;
  }
  const lastSeconds = last?.timestamp ?? 0;
  const isShown = (seconds: number) => lastSeconds < 0 || seconds >= -ROUNDING_SECONDS;
  const times: number[] = [];
  for await (const { timestamp } of packets.packets(undefined, undefined, metadataOnly)) {
    if (isShown(timestamp)) times.push(timestamp);
    if (times.length >= RATE_FRAMES + REORDERED_FRAMES) break;
  }
  times.sort((a, b) => a - b);
  const distinct = times.filter((time, index) => time !== times[index - 1]);
  const beginSeconds = distinct[0] ?? (await track.getFirstTimestamp());
  const ownEnd = container.storesDurations ? lastSeconds + (last?.duration ?? 0) : lastSeconds;
  const endSeconds = Math.max(ownEnd, container.endSeconds ?? ownEnd);
  return {
    timing: {
      firstSeconds: distinct.slice(0, RATE_FRAMES).map((time) => time - beginSeconds),
      lastSeconds: lastSeconds - beginSeconds,
      endSeconds: endSeconds - beginSeconds,
    },
    trackSeconds: (seconds) => beginSeconds + seconds,
  };
}

/** The first of frames, in rising order, that begins at `seconds` or later. */
function firstFrom(frames: readonly { readonly at: number }[], seconds: number): number {
  let [low, high] = [0, frames.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (frames[middle]!.at < seconds) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Whether edits show the track to its end, in one part, as the demuxer takes them. */
function isWhole(edits: readonly Edit[], lastSeconds: number): boolean {
  const [first] = edits;
  if (!first || edits.length > 1) return false;
  return lastSeconds < first.trackSeconds + first.lengthSeconds + ROUNDING_SECONDS;
}

/** The timing of a track of which parts are shown; undefined where they show nothing of it. */
async function editedTiming(
  name: string,
  packets: EncodedPacketSink,
  edits: readonly Edit[],
): Promise<TrackTiming | undefined> {
  const stored: { readonly at: number; readonly duration: number }[] = [];
  for await (const { timestamp, duration } of packets.packets(undefined, undefined, metadataOnly))
    stored.push({ at: timestamp, duration });
  stored.sort((a, b) => a.at - b.at);
  // As they are shown; what begins before its part was cut away. A small list may show a long track
  // many times.
  const shown: { readonly seconds: number; readonly at: number; readonly duration: number }[] = [];
  for (const { beginSeconds, lengthSeconds, trackSeconds } of edits) {
    const from = firstFrom(stored, trackSeconds - ROUNDING_SECONDS);
    const end = firstFrom(stored, trackSeconds + lengthSeconds - ROUNDING_SECONDS);
    if (shown.length + end - from > MAX_FRAMES) {
      const why = `its edit list shows more than ${MAX_FRAMES} frames: save it shorter`;
      throw new UniviError("bad-video", `${name}: ${why}`);
    }
    for (const { at, duration } of stored.slice(from, end))
      shown.push({ seconds: at - trackSeconds + beginSeconds, at, duration });
  }
  const [first, last] = [shown[0], shown.at(-1)];
  if (!first || !last) return undefined;
  const times = shown.map(({ seconds }) => seconds - first.seconds);
  const lastSeconds = last.seconds - first.seconds;
  const firstSeconds = times.slice(0, RATE_FRAMES);
  return {
    timing: { firstSeconds, lastSeconds, endSeconds: lastSeconds + last.duration },
    trackSeconds: (seconds) => {
      const behind = times.findIndex((time) => time > seconds + ROUNDING_SECONDS);
      return shown.at(behind < 0 ? -1 : Math.max(behind - 1, 0))!.at;
    },
  };
}
