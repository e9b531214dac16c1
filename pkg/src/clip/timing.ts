/** When the frames of a clip are shown: what its sampled moments are chosen from. */
import type { ClipTiming } from "../types.js";
import type { EncodedPacketSink, InputVideoTrack } from "./demuxer.js";

/** As `RATE_FRAMES` in `crates/core/src/frames.rs`. */
export const RATE_FRAMES = 256;

/** Frames are stored in another order than they are shown in, but not farther apart. */
const REORDERED_FRAMES = 32;

/** As `TIME_ROUNDING_S` in `crates/core/src/frames.rs`: Matroska counts milliseconds. */
export const ROUNDING_SECONDS = 0.0006;

/** A track's timing, and when its first frame is shown in the time of the track. */
export interface TrackTiming extends ClipTiming {
  readonly beginSeconds: number;
}

/**
 * Reads the timing of a track. What lies before 0 was cut away, unless all of it does.
 *
 * Containers of other formats than MP4 don't store how long their last frame stays; Matroska says
 * when the whole ends, which is `endSeconds` where the track is alone in it.
 */
export async function trackTiming(
  track: InputVideoTrack,
  packets: EncodedPacketSink,
  container: { readonly storesDurations: boolean; readonly endSeconds: number | undefined },
): Promise<TrackTiming> {
  const metadataOnly = { metadataOnly: true };
  const last = await packets.getPacket(Number.POSITIVE_INFINITY, metadataOnly);
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
    beginSeconds,
    firstSeconds: distinct.slice(0, RATE_FRAMES).map((time) => time - beginSeconds),
    lastSeconds: lastSeconds - beginSeconds,
    endSeconds: endSeconds - beginSeconds,
  };
}
