/**
 * What goes on: a camera or a playing video, looked at again and again, of which the last seconds
 * can be asked about.
 */
import { UniviError } from "./error.js";
import type { VisualOptions, Part } from "./parts.js";
import type { Handle } from "./calls.js";
import type { Client } from "./rpc.js";
import type { SessionOptions, TokenMap } from "./types.js";
import { isA } from "./runtime.js";
import { StreamedAnswer } from "./answer.js";
import { samplingOf } from "./sampling.js";
import type { AskOptions } from "./session.js";
import { PartUploader } from "./uploader.js";

/** How something is watched. */
export interface WatchOptions
  extends Pick<SessionOptions, "system" | "template">,
    Pick<VisualOptions, "visualTokens"> {
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
  readonly framesEncoded: number;
  /**
   * Frames whose time came while the one before was still being looked at: they were left out, not
   * queued.
   */
  readonly framesDropped: number;
  /** When the frames that can be asked about were shown, in seconds since watching began. */
  readonly timesSeconds: readonly number[];
  /** What looking at the last frame took. */
  readonly encodeMs: number;
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
  #encoding = false;
  #stats: LiveStats = { framesEncoded: 0, framesDropped: 0, timesSeconds: [], encodeMs: 0 };
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
   * Asks about the frames of the window, in a conversation of its own. The first of the answer's
   * token maps has the times of these frames, and the events that they were merged to. Waits for
   * the first frame.
   */
  ask(
    parts: string | readonly Part[],
    options: Omit<AskOptions, "visualTokens"> = {},
  ): StreamedAnswer {
    return new StreamedAnswer(options.signal, async (sink) => {
      const { signal } = sink;
      await this.#firstFrame(signal);
      const client = this.#client;
      const [visual, session] = [client.newHandle(), client.newHandle()];
      const uploader = new PartUploader(client, { ...options, signal });
      try {
        const params = { live: this.#live, visual, ...this.#budget };
        sink.tokenMap(await client.call("mergeFrames", params, { signal }));
        const { system, template } = this.#options;
        const conversation: SessionOptions = {
          ...(system === undefined ? {} : { system }),
          ...(template === undefined ? {} : { template }),
        };
        await client.call("openSession", { session, options: conversation }, { signal });
        const all = [{ visual }, ...(typeof parts === "string" ? [parts] : parts)];
        const sent = await uploader.upload(all, sink.tokenMap);
        sink.encoded();
        const { usage } = await client.call(
          "answer",
          { session, parts: sent, options: samplingOf(options) },
          { signal, onEvent: sink.piece },
        );
        return usage;
      } finally {
        uploader.free();
        client.free([visual, session]);
      }
    });
  }

  /** Resolves once the first frame has been looked at; rejects where watching is stopped before. */
  ready(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    return this.#firstFrame(options.signal);
  }

  /** What the model would be told now: events, with the frames and times of each. */
  async tokenMap(options: { readonly signal?: AbortSignal } = {}): Promise<TokenMap> {
    await this.#firstFrame(options.signal);
    const visual = this.#client.newHandle();
    try {
      return await this.#client.call(
        "mergeFrames",
        { live: this.#live, visual, ...this.#budget },
        { signal: options.signal },
      );
    } finally {
      this.#client.free([visual]);
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
    this.#client.free([this.#live]);
  }

  async #firstFrame(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    if (this.#timer === undefined) throw stopped();
    if (this.#stats.framesEncoded > 0) return;
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  }

  async #tick(): Promise<void> {
    if (this.#encoding) {
      this.#stats = { ...this.#stats, framesDropped: this.#stats.framesDropped + 1 };
      return;
    }
    if (this.#video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
    this.#encoding = true;
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
      const timesSeconds = await this.#client.call("encodeFrame", params, { transfer: [frame] });
      if (this.#timer === undefined) return this.#client.free([this.#live]); // It was stopped meanwhile.
      this.#stats = {
        ...this.#stats,
        framesEncoded: this.#stats.framesEncoded + 1,
        timesSeconds,
        encodeMs: performance.now() - started,
      };
      for (const { resolve } of this.#waiting.splice(0)) resolve();
      this.#options.onFrame?.(this.#stats);
    } catch (error) {
      if (this.#timer !== undefined) this.#options.onError?.(error);
    } finally {
      this.#encoding = false;
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
