/**
 * A live session over a camera or a playing video, of which the last seconds can be asked about.
 */
import type { StreamedAnswer } from "./answer.js";
import type { Handle } from "./calls.js";
import { asyncDispose, dispose } from "./dispose.js";
import { UniviError } from "./error.js";
import { currentFrame } from "./image.js";
import { callback, type Checks, copyOptions, number, signal, string, wrong } from "./options.js";
import type { Part, VisualOptions } from "./parts.js";
import { answerTo, type AskOptions } from "./question.js";
import type { Client } from "./rpc.js";
import { isA } from "./runtime.js";
import type { SessionOptions, TokenMap } from "./types.js";
import { PartUploader } from "./uploader.js";

/** How a camera or video is watched. */
export interface WatchOptions
  extends Pick<SessionOptions, "system" | "template">,
    Pick<VisualOptions, "visualTokens"> {
  /** Frames that are encoded per second, at most; 1 by default. */
  readonly framesPerSecond?: number;
  /** Seconds for which a frame can be asked about; 60 by default. */
  readonly windowSeconds?: number;
  /** Stops the live session, as {@link Live.stop} does. */
  readonly signal?: AbortSignal;
  /** Called for each frame that was encoded. */
  readonly onFrame?: (stats: LiveStats) => void;
  /**
   * Called where no frame can be encoded: the source has ended, or gives no picture, or encoding
   * fails. {@link Live.state} says whether it goes on.
   */
  readonly onError?: (error: unknown) => void;
}

/**
 * - `starting`: no frame has come yet;
 * - `watching`: frames come;
 * - `ended`: the camera, stream or video has ended; a video that is played again goes on;
 * - `stopped`: by {@link Live.stop} or the signal.
 */
export type LiveState = "starting" | "watching" | "ended" | "stopped";

/** Counts of a live session. */
export interface LiveStats {
  /** Frames that were encoded. */
  readonly framesEncoded: number;
  /** Frames whose time came while the one before was being encoded: dropped, not queued. */
  readonly framesDropped: number;
  /** When the frames of the window were shown, in seconds since the session began. */
  readonly timesSeconds: readonly number[];
  /** Milliseconds that encoding the last frame took. */
  readonly encodeMs: number;
}

/** Milliseconds after which a source without a picture is reported. */
const NO_PICTURE_MS = 10_000;

const WATCH: Checks<WatchOptions> = {
  system: string,
  template: string,
  visualTokens: number,
  framesPerSecond: upTo(60),
  windowSeconds: upTo(3600),
  signal,
  onFrame: callback<(stats: LiveStats) => void>(),
  onError: callback<(error: unknown) => void>(),
};

function upTo(most: number): (value: unknown, name: string) => number {
  return (value, name) => {
    if (!(number(value, name) > 0 && number(value, name) <= most))
      throw wrong(name, `a number up to ${most}`, value);
    return value as number;
  };
}

/**
 * A live session. Made by {@link Univi.watch}.
 *
 * Each frame is encoded once; a few tokens of it stay on the device for as long as the window
 * reaches back.
 */
export class Live implements Disposable, AsyncDisposable {
  readonly #client: Client;
  readonly #options: WatchOptions;
  readonly #live: Handle;
  readonly #video: HTMLVideoElement;
  readonly #ownsVideo: boolean;
  readonly #began = performance.now();
  /** When there was a picture last, or that there was none was reported. */
  #pictureAt = performance.now();
  #timer: ReturnType<typeof setInterval> | undefined;
  #state: LiveState = "starting";
  #encoding = false;
  #stats: LiveStats = { framesEncoded: 0, framesDropped: 0, timesSeconds: [], encodeMs: 0 };
  /** Those who wait for the first frame. */
  #waiting: { readonly resolve: () => void; readonly reject: (reason: unknown) => void }[] = [];

  /** @internal */
  constructor(client: Client, source: MediaStream | HTMLVideoElement, options: WatchOptions) {
    this.#options = copyOptions<WatchOptions>(options, WATCH, "watch");
    const { framesPerSecond = 1, signal } = this.#options;
    signal?.throwIfAborted();
    if (!globalThis.document)
      throw new UniviError("bad-request", "only a page can watch a camera or video");
    if (!isA("HTMLVideoElement", source) && !isA("MediaStream", source))
      throw wrong("source", "a MediaStream or a <video> element", source);
    this.#client = client;
    this.#live = client.newHandle();
    this.#ownsVideo = isA("MediaStream", source);
    if (this.#ownsVideo) refuseDead(source as MediaStream);
    this.#video = this.#ownsVideo ? playing(source as MediaStream) : (source as HTMLVideoElement);
    this.#timer = setInterval(() => void this.#tick(), 1000 / framesPerSecond);
    signal?.addEventListener("abort", () => this.stop(), { once: true });
    void this.#tick();
  }

  get #budget(): { visualTokens?: number } {
    const { visualTokens } = this.#options;
    return visualTokens === undefined ? {} : { visualTokens };
  }

  /** Returns whether frames come. */
  get state(): LiveState {
    return this.#state;
  }

  /** Returns the counts up to now. */
  get stats(): LiveStats {
    return this.#stats;
  }

  /**
   * Asks about the frames of the window, in a conversation of its own. The first of the answer's
   * token maps has the times of these frames, and the events that they were merged to. Waits for
   * the first frame; refuses once the source has ended.
   */
  ask(
    parts: string | Iterable<Part>,
    options: Omit<AskOptions, "visualTokens"> = {},
  ): StreamedAnswer {
    const client = this.#client;
    return answerTo(client, parts, options, async (question, sink) => {
      const { signal } = sink;
      await this.#firstFrame(signal);
      const [visual, tokenMap, session] = [
        client.newHandle(),
        client.newHandle(),
        client.newHandle(),
      ];
      const uploader = new PartUploader(client, { ...question.visual, signal }, sink);
      try {
        const params = { live: this.#live, visual, tokenMap, ...this.#budget };
        sink.tokenMaps.add(tokenMap);
        await client.call("mergeFrames", params, { signal });
        const { system, template } = this.#options;
        const conversation: SessionOptions = {
          ...(system === undefined ? {} : { system }),
          ...(template === undefined ? {} : { template }),
        };
        await client.call("openSession", { session, options: conversation }, { signal });
        const sent = await uploader.upload([{ kind: "encoded", visual }, ...question.parts]);
        sink.encoded();
        const { usage } = await client.call(
          "answer",
          { session, parts: sent, options: question.sampling },
          { signal, onEvent: ({ text }) => sink.piece(text) },
        );
        return usage;
      } finally {
        uploader.free();
        void client.free([visual, session]);
      }
    });
  }

  /**
   * Resolves once the first frame is encoded; rejects where the session is stopped, or the source
   * ends, before.
   */
  ready(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    return this.#firstFrame(options.signal);
  }

  /** Returns the token map of the window as it is now. */
  async tokenMap(options: { readonly signal?: AbortSignal } = {}): Promise<TokenMap> {
    const { signal } = options;
    await this.#firstFrame(signal);
    const [visual, tokenMap] = [this.#client.newHandle(), this.#client.newHandle()];
    try {
      const params = { live: this.#live, visual, tokenMap, ...this.#budget };
      await this.#client.call("mergeFrames", params, { signal });
      return await this.#client.call("tokenMap", { tokenMap }, { signal });
    } finally {
      void this.#client.free([visual, tokenMap]);
    }
  }

  /** Stops the live session and frees its frames. The stream stays open. May be called again. */
  stop(): void {
    void this.#end();
  }

  /** As {@link Live.stop}. */
  [dispose](): void {
    this.stop();
  }

  /** Stops the live session, and waits until the device has the memory of its frames back. */
  async [asyncDispose](): Promise<void> {
    await this.#end();
  }

  #end(): Promise<void> {
    if (this.#state !== "stopped") {
      this.#state = "stopped";
      clearInterval(this.#timer);
      if (this.#ownsVideo) this.#video.srcObject = null;
      this.#reject(stopped());
    }
    return this.#client.free([this.#live]);
  }

  async #firstFrame(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    this.#noticeEnd();
    if (this.#state === "stopped") throw stopped();
    if (this.#state === "ended") throw ended();
    if (this.#stats.framesEncoded > 0) return;
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  }

  #reject(reason: UniviError): void {
    for (const { reject } of this.#waiting.splice(0)) reject(reason);
  }

  /** Reports something that keeps frames from being encoded. */
  #report(error: unknown): void {
    if (this.#state !== "stopped") this.#options.onError?.(error);
  }

  /**
   * Notices that the source has ended, or goes on. A track that is stopped by the page fires no
   * event, so the state is looked up.
   */
  #noticeEnd(): void {
    if (this.#state === "stopped") return;
    const stream = this.#video.srcObject;
    const over = isA("MediaStream", stream)
      ? !hasVideo(stream as MediaStream)
      : this.#video.ended || this.#video.error !== null;
    if (over === (this.#state === "ended")) return;
    this.#state = over ? "ended" : this.#stats.framesEncoded > 0 ? "watching" : "starting";
    if (!over) return;
    this.#reject(ended());
    this.#report(ended());
  }

  async #tick(): Promise<void> {
    this.#noticeEnd();
    if (this.#state === "ended" || this.#state === "stopped") return;
    if (this.#encoding) {
      this.#stats = { ...this.#stats, framesDropped: this.#stats.framesDropped + 1 };
      return;
    }
    const started = performance.now();
    if (this.#video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) {
      if (started - this.#pictureAt < NO_PICTURE_MS) return;
      this.#pictureAt = started;
      this.#reject(noPicture());
      this.#report(noPicture());
      return;
    }
    this.#pictureAt = started;
    this.#encoding = true;
    try {
      const frame = await currentFrame(this.#video);
      const { windowSeconds = 60 } = this.#options;
      const params = {
        live: this.#live,
        timeSeconds: (started - this.#began) / 1000,
        windowSeconds,
        frame,
        ...this.#budget,
      };
      const timesSeconds = await this.#client.call("encodeFrame", params, { transfer: [frame] });
      if ((this.#state as LiveState) === "stopped") {
        void this.#client.free([this.#live]); // It was opened again by this frame.
        return;
      }
      this.#stats = {
        ...this.#stats,
        framesEncoded: this.#stats.framesEncoded + 1,
        timesSeconds,
        encodeMs: performance.now() - started,
      };
      if (this.#state === "starting") this.#state = "watching";
      for (const { resolve } of this.#waiting.splice(0)) resolve();
      this.#options.onFrame?.(this.#stats);
    } catch (error) {
      this.#report(error);
    } finally {
      this.#encoding = false;
    }
  }
}

function stopped(): UniviError {
  return new UniviError("bad-request", "the live session was stopped; watch again");
}

function ended(): UniviError {
  return new UniviError(
    "bad-video",
    "the camera or video has ended: it was unplugged, its permission taken back, or it was stopped; watch another one",
  );
}

function noPicture(): UniviError {
  return new UniviError(
    "bad-video",
    `no picture has come for ${NO_PICTURE_MS / 1000} s: is the camera in use elsewhere or covered by the system, or the video paused before its first frame?`,
  );
}

function hasVideo(stream: MediaStream): boolean {
  return stream.getVideoTracks().some(({ readyState }) => readyState === "live");
}

/** Refuses a stream that can't give a picture any more, or never could. */
function refuseDead(stream: MediaStream): void {
  if (stream.getVideoTracks().length === 0)
    throw new UniviError(
      "bad-request",
      "the stream has no video track; ask for one: getUserMedia({ video: true })",
    );
  if (!hasVideo(stream)) throw ended();
}

/** An element that is not shown, so that a stream's frames can be taken. */
function playing(stream: MediaStream): HTMLVideoElement {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.srcObject = stream;
  video.play().catch(() => {}); // It was stopped at once.
  return video;
}
