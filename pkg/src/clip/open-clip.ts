/** A clip that is being read. */
import type { FramePicture } from "../calls.js";
import type { ClipTiming } from "../types.js";

/** What each way to open a clip results in. */
export interface OpenClip {
  readonly timing: ClipTiming;
  /**
   * The frames that are shown at these times, which rise. Who takes one closes it or hands it on.
   */
  frames(timesSeconds: readonly number[]): AsyncIterable<FramePicture>;
  /** Lets go of the source and the decoder. */
  close(): void;
}
