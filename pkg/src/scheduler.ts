/** The order in which calls are carried out. */
import type { Handle } from "./calls.js";

/**
 * Carries out work in the order in which it came where it has a handle in common, and side by side
 * otherwise.
 */
export class Scheduler {
  /** The last work to come for each handle. */
  readonly #last = new Map<Handle, Promise<void>>();
  readonly #running = new Set<Promise<void>>();

  /** Carries out `work`, which never rejects, after all earlier work on any of `handles`. */
  run(handles: readonly Handle[], work: () => Promise<void>): void {
    const call = Promise.all(handles.map((handle) => this.#last.get(handle))).then(work);
    this.#track(handles, call);
  }

  /** Carries out `work`, which never rejects, after all earlier work. */
  runLast(work: () => Promise<void>): void {
    this.#track([], Promise.all(this.#running).then(work));
  }

  #track(handles: readonly Handle[], call: Promise<void>): void {
    this.#running.add(call);
    for (const handle of handles) this.#last.set(handle, call);
    void call.then(() => {
      this.#running.delete(call);
      for (const handle of handles) if (this.#last.get(handle) === call) this.#last.delete(handle);
    });
  }
}
