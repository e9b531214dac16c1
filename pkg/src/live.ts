/**
 * What goes on: a camera or a playing video, looked at again and again, of which the last seconds
 * can be asked about.
 */
import { UniviError } from "./error.js";
import type { LookOptions, Part } from "./parts.js";
import type { Client, Handle, Seen, SessionOptions } from "./protocol.js";
import { isA } from "./runtime.js";
import { Answer, answerTo, type AskOptions, free, samplingOf } from "./session.js";

/** How something is watched. */
export interface WatchOptions
  extends Pick<SessionOptions, "system" | "template">,
    Pick<LookOptions, "visualTokens"> {
  /** So many frames are looked at in a second, at most; 1 by default. */
  readonly framesPerSecond?: number;
  /** For so long a frame can be asked about; 60 seconds by default. */
  readonly windowSeconds?: number;
  /** Stops watching, as {@link Live.stop} does. */
  readonly signal?: AbortSignal;
  /** Hears of each frame that was looked at. */
  readonly onFrame?: (stats: LiveStats) => void;
  /** Hears what keeps frames from being looked at; watching goes on. */
  readonly onError?: (error: unknown) => void;
}

/** How watching goes. */
export interface LiveStats {
  /** Frames that were looked at. */
  readonly seen: number;
  /**
   * Frames whose time came while the one before was still being looked at: they were left out, not
   * queued.
   */
  readonly dropped: number;
  /** When the frames that can be asked about were shown, in seconds since watching began. */
  readonly timesSeconds: readonly number[];
  /** What looking at the last frame took. */
  readonly lookMs: number;
}

/**
 * Something that is being watched. Made by {@link Univi.watch}.
 *
 * Each frame is encoded once; a few tokens of it stay on the device for as long as the window
 * reaches back.
 */
export class Live {
  readonly #client: Client;
  readonly #options: WatchOptions;
  readonly #live: Handle;
  readonly #video: HTMLVideoElement;
  readonly #ownsVideo: boolean;
  readonly #began = performance.now();
  #timer: ReturnType<typeof setInterval> | undefined;
  #looking = false;
  #stats: LiveStats = { seen: 0, dropped: 0, timesSeconds: [], lookMs: 0 };
  /** Those who wait for the first frame. */
  #waiting: { readonly resolve: () => void; readonly reject: (reason: unknown) => void }[] = [];

  /** @internal */
  constructor(client: Client, source: MediaStream | HTMLVideoElement, options: WatchOptions) {
    const { framesPerSecond = 1, windowSeconds = 60, signal } = options;
    if (!(framesPerSecond > 0 && framesPerSecond <= 60))
      throw new UniviError(
        "bad-request",
        `framesPerSecond is ${framesPerSecond}, expected a number up to 60`,
      );
    if (!(windowSeconds > 0 && windowSeconds <= 3600))
      throw new UniviError(
        "bad-request",
        `windowSeconds is ${windowSeconds}, expected a number up to 3600`,
      );
    signal?.throwIfAborted();
    if (!globalThis.document)
      throw new UniviError("bad-request", "only a page can watch something");
    this.#client = client;
    this.#options = options;
    this.#live = client.newHandle();
    this.#ownsVideo = !isA("HTMLVideoElement", source);
    this.#video = this.#ownsVideo ? playing(source as MediaStream) : (source as HTMLVideoElement);
    this.#timer = setInterval(() => void this.#tick(), 1000 / framesPerSecond);
    signal?.addEventListener("abort", () => this.stop(), { once: true });
    void this.#tick();
  }

  get #budget(): { visualTokens?: number } {
    const { visualTokens } = this.#options;
    return visualTokens === undefined ? {} : { visualTokens };
  }

  /** How watching goes. */
  get stats(): LiveStats {
    return this.#stats;
  }

  /**
   * Asks about what was seen in the window, in a conversation of its own. `seen[0]` of the answer
   * tells which seconds it looked at and which of its frames were told as one event. Before the
   * first frame has come, it is waited for.
   */
  ask(parts: string | readonly Part[], options: Omit<AskOptions, "visualTokens"> = {}): Answer {
    return new Answer(
      async function* (this: Live, answer: Answer) {
        await this.#firstFrame(options.signal);
        const client = this.#client;
        const [visual, session] = [client.newHandle(), client.newHandle()];
        try {
          answer.seen.push(
            await client.call(
              "recall",
              { live: this.#live, visual, ...this.#budget },
              { signal: options.signal },
            ),
          );
          const { system, template } = this.#options;
          const conversation: SessionOptions = {
            ...(system === undefined ? {} : { system }),
            ...(template === undefined ? {} : { template }),
          };
          await client.call(
            "openSession",
            { session, options: conversation },
            { signal: options.signal },
          );
          const all = [{ visual }, ...(typeof parts === "string" ? [parts] : parts)];
          yield* answerTo(client, answer, all, options, async (sent, signal, onPiece) => {
            const params = { session, parts: sent, options: samplingOf(options) };
            return (await client.call("answer", params, { signal, onEvent: onPiece })).usage;
          });
        } finally {
          free(client, [visual, session]);
        }
      }.bind(this),
    );
  }

  /** Resolves once the first frame has been looked at; rejects where watching is stopped before. */
  ready(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    return this.#firstFrame(options.signal);
  }

  /** What the model would be told now: events, with the frames and times of each. */
  async snapshot(options: { readonly signal?: AbortSignal } = {}): Promise<Seen> {
    await this.#firstFrame(options.signal);
    const visual = this.#client.newHandle();
    try {
      return await this.#client.call(
        "recall",
        { live: this.#live, visual, ...this.#budget },
        { signal: options.signal },
      );
    } finally {
      free(this.#client, [visual]);
    }
  }

  /**
   * Stops looking; what was seen is forgotten. The stream itself belongs to whoever opened it. May
   * be called again.
   */
  stop(): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#ownsVideo) this.#video.srcObject = null;
    for (const { reject } of this.#waiting.splice(0)) reject(stopped());
    free(this.#client, [this.#live]);
  }

  async #firstFrame(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    if (this.#timer === undefined) throw stopped();
    if (this.#stats.seen > 0) return;
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  }

  async #tick(): Promise<void> {
    if (this.#looking) {
      this.#stats = { ...this.#stats, dropped: this.#stats.dropped + 1 };
      return;
    }
    if (this.#video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
    this.#looking = true;
    const started = performance.now();
    try {
      const frame = await createImageBitmap(this.#video);
      const { windowSeconds = 60 } = this.#options;
      const params = {
        live: this.#live,
        timeSeconds: (started - this.#began) / 1000,
        windowSeconds,
        frame,
        ...this.#budget,
      };
      const timesSeconds = await this.#client.call("pushLive", params, { transfer: [frame] });
      if (this.#timer === undefined) return free(this.#client, [this.#live]); // It was stopped meanwhile.
      this.#stats = {
        ...this.#stats,
        seen: this.#stats.seen + 1,
        timesSeconds,
        lookMs: performance.now() - started,
      };
      for (const { resolve } of this.#waiting.splice(0)) resolve();
      this.#options.onFrame?.(this.#stats);
    } catch (error) {
      if (this.#timer !== undefined) this.#options.onError?.(error);
    } finally {
      this.#looking = false;
    }
  }
}

function stopped(): UniviError {
  return new UniviError("bad-request", "watching was stopped; watch again");
}

/** An element that nobody sees, so that a stream's frames can be taken. */
function playing(stream: MediaStream): HTMLVideoElement {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.srcObject = stream;
  video.play().catch(() => {}); // It was stopped at once.
  return video;
}
