/** How far loading has come, and how fast. */
import type { LoadProgress } from "./types.js";

/** Progress is told at most so often. */
const INTERVAL_MS = 60;
/** Over how long a download's speed is measured. */
const SPEED_WINDOW_MS = 3000;

/** Tells progress now and then, never going back, with the speed of the last seconds. */
export class Meter {
  readonly #emit: (progress: LoadProgress) => void;
  #samples: { at: number; loaded: number }[] = [];
  #most = 0;

  constructor(emit: (progress: LoadProgress) => void) {
    this.#emit = emit;
  }

  tell(progress: LoadProgress): void {
    const at = performance.now();
    const last = this.#samples.at(-1);
    if (last && at - last.at < INTERVAL_MS) return;
    this.#most = Math.max(this.#most, progress.loaded);
    const loaded = this.#most;
    this.#samples = [
      ...this.#samples.filter((sample) => at - sample.at < SPEED_WINDOW_MS),
      { at, loaded },
    ];
    const oldest = this.#samples[0]!;
    const seconds = (at - oldest.at) / 1000;
    const bytesPerSecond = (loaded - oldest.loaded) / seconds;
    if (seconds < 0.5 || bytesPerSecond === 0) this.#emit({ ...progress, loaded });
    else if (progress.total === 0) this.#emit({ ...progress, loaded, bytesPerSecond });
    else
      this.#emit({
        ...progress,
        loaded,
        bytesPerSecond,
        etaSeconds: (progress.total - loaded) / bytesPerSecond,
      });
  }
}
