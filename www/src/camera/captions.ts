/** Live captions: one question, put again and again about what is watched. */
import type { Live } from "univi";

import { askOptions } from "../settings.js";
import type { Caption } from "./caption-file.js";

/** Captions that are kept at most: a day of them, one every five seconds. */
const MOST = 20_000;

/** What is captioned. */
export interface Watched {
  /** What watches it, once there is a model. */
  readonly live: Live | undefined;
  /** The newest frame that was encoded, and when it was there. */
  readonly newest: { readonly picture: HTMLCanvasElement; readonly at: number } | undefined;
  /** The scene that all frames of the window show; undefined where something has changed. */
  readonly still: number | undefined;
  /** Whether it is of use while the page is out of sight. */
  readonly whileHidden: boolean;
}

/** What is asked, and how often. */
export interface CaptionQuestion {
  readonly text: string;
  /** At least so long from one question to the next. */
  readonly everyMs: number;
}

/** Why captions ask or do not. */
export type CaptionState =
  | "starting"
  | "answering"
  | "still"
  | "hidden"
  | "held"
  | "waiting"
  | "stopped";

/** Where captions are shown. */
export interface CaptionView {
  /** Shows why they ask or do not. */
  state(state: CaptionState): void;
  /** Shows how far an answer has come that says something new; undefined where none is coming. */
  coming(text: string | undefined): void;
  /** Shows a new caption; the picture changes no more. */
  added(caption: Caption, picture: HTMLCanvasElement): void;
  /** Shows that the newest caption holds until now. */
  extended(caption: Caption): void;
  /** Shows that something went wrong; the captions have stopped. */
  failed(error: unknown): void;
}

/** What was asked last. */
interface Asked {
  readonly text: string;
  readonly live: Live;
  readonly still: number | undefined;
  readonly at: number;
  readonly pictureAt: number;
  /** Whether the answer came to its end. */
  whole: boolean;
}

/** Milliseconds since 1970, by a clock that never goes back. */
export const now = () => performance.timeOrigin + performance.now();

/** Captions, of the first start on. */
export class Captions {
  readonly #view: CaptionView;
  /** Oldest first. */
  #all: Caption[] = [];
  /** The newest, while it holds. */
  #current: Caption | undefined;
  #running: AbortController | undefined;
  #asked: Asked | undefined;
  #held = false;
  #wake = () => {};
  #answers = 0;
  #behindMs = 0;

  constructor(view: CaptionView) {
    this.#view = view;
    document.addEventListener("visibilitychange", () => this.notice());
  }

  /** All that are kept, oldest first. */
  get all(): readonly Caption[] {
    return this.#all;
  }

  get running(): boolean {
    return this.#running !== undefined;
  }

  /** Answers since the first start, and how far behind its picture the last one was complete. */
  get figures(): { readonly answers: number; readonly behindMs: number } {
    return { answers: this.#answers, behindMs: this.#behindMs };
  }

  /** Whether a person is asking: that goes first. */
  set held(held: boolean) {
    this.#held = held;
    this.notice();
  }

  /** Takes all captions out, and returns them. */
  clear(): readonly Caption[] {
    const cleared = this.#all;
    this.#all = [];
    this.#current = this.#asked = undefined;
    this.notice();
    return cleared;
  }

  /** Puts captions before those that there are. */
  restore(captions: readonly Caption[]): void {
    this.#all = [...captions, ...this.#all];
  }

  /**
   * Asks until it is stopped. `question` is read anew for each answer; `begin` resolves to false
   * where there is no model to ask.
   */
  async start(
    watched: Watched,
    question: () => CaptionQuestion,
    begin: () => Promise<boolean>,
  ): Promise<void> {
    this.stop();
    const running = new AbortController();
    this.#running = running;
    this.#view.state("starting");
    try {
      if (await begin()) await this.#run(watched, question, running.signal);
    } catch (error) {
      if (!running.signal.aborted) this.#view.failed(error);
    } finally {
      if (this.#running === running) this.stop();
    }
  }

  /** Stops at once; what the answer on its way has said is dropped. */
  stop(): void {
    const running = this.#running;
    if (!running) return;
    this.#running = undefined;
    running.abort();
    this.#extend(now());
    this.#current = undefined;
    this.#wake();
    this.#view.coming(undefined);
    this.#view.state("stopped");
  }

  /** Notices that a frame has come, or that the page is hidden or seen. */
  notice(): void {
    this.#wake();
  }

  async #run(
    watched: Watched,
    question: () => CaptionQuestion,
    signal: AbortSignal,
  ): Promise<void> {
    this.#asked = undefined;
    while (!signal.aborted) {
      const state = this.#stateOf(watched, question());
      const { live, newest, still } = watched;
      this.#view.state(state);
      if (state === "answering" && live && newest) {
        const { text } = question();
        const asked = { text, live, still, at: now(), pictureAt: newest.at, whole: false };
        this.#asked = asked;
        asked.whole = await this.#ask(watched, live, newest, text, signal);
        continue;
      }
      if (state === "still") this.#extend(newest!.at);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** What is to be done now. */
  #stateOf(watched: Watched, { text, everyMs }: CaptionQuestion): CaptionState {
    const { live, newest, still } = watched;
    const asked = this.#asked;
    if (this.#held) return "held";
    if (isOutOfSight(watched)) return "hidden";
    if (!live || !newest) return "starting";
    if (!asked?.whole) return "answering";
    if (newest.at <= asked.pictureAt) return "waiting";
    // A still scene would be answered as it was.
    const same = asked.live === live && asked.text === text && asked.still === still;
    if (same && still !== undefined) return "still";
    return now() < asked.at + everyMs ? "waiting" : "answering";
  }

  /** Puts the question once. Returns false where it was broken off. */
  async #ask(
    watched: Watched,
    live: Live,
    { picture, at }: NonNullable<Watched["newest"]>,
    question: string,
    running: AbortSignal,
  ): Promise<boolean> {
    const asking = new AbortController();
    const signal = AbortSignal.any([running, asking.signal]);
    this.#wake = () => {
      if (this.#held || isOutOfSight(watched)) asking.abort();
    };
    try {
      let text = "";
      for await (const piece of live.ask(question, { ...askOptions(), signal })) {
        if (signal.aborted) break;
        text += piece;
        // The same as before is not shown anew.
        if (!this.#current?.text.startsWith(text.trim())) this.#view.coming(text);
      }
      signal.throwIfAborted();
      this.#answers += 1;
      this.#behindMs = now() - at;
      this.#add(text.trim(), at, picture);
      return true;
    } catch (error) {
      // The settings have changed how frames are encoded, or another model came.
      if (!signal.aborted && watched.live === live) throw error;
      return false;
    } finally {
      if (!running.aborted) this.#view.coming(undefined);
    }
  }

  #add(text: string, at: number, picture: HTMLCanvasElement): void {
    if (text === "") return;
    if (this.#current?.text === text) {
      this.#extend(at);
      return;
    }
    // It was there until this picture, which may be older than its own answer.
    const before = this.#all.at(-1);
    if (before && (this.#current || before.to > at)) before.to = at;
    if (this.#current) this.#view.extended(this.#current);
    this.#current = { text, from: at, to: now() };
    this.#all.push(this.#current);
    if (this.#all.length > MOST) this.#all.shift();
    this.#view.added(this.#current, picture);
  }

  /** The newest caption holds until then. */
  #extend(at: number): void {
    const current = this.#current;
    if (!current) return;
    current.to = Math.max(current.to, at);
    this.#view.extended(current);
  }
}

function isOutOfSight({ whileHidden }: Watched): boolean {
  return document.hidden && !whileHidden;
}
