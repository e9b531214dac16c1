/** Trimming a clip before it is asked about: which part of it, how many frames, and their cost. */
import type { FrameChoice, Univi } from "univi";
import { clock } from "univi/elements";

import "./styles/trim.css";
import { type Attachment, nameOf } from "./attachment.js";
import { button, make } from "./dom.js";
import { number } from "./format.js";
import { frameChoice, visualTokens } from "./settings.js";
import { trimWords } from "./words/trim.js";

/** A clip shorter than this is cut by tenths of a second, a longer one by seconds. */
const FINE_SECONDS = 120;
/** Browsers tell the length of a recording without an index once they were sent behind its end. */
const BEHIND_THE_END = 1e7;
const MOST_PER_SECOND = 30;

type Clip = Extract<Attachment, { kind: "image" | "clip" }>;

/** What the panel needs of the page. */
export interface TrimHost {
  /** The model, where one is loaded. */
  readonly univi: () => Univi | undefined;
  readonly load: () => Promise<unknown>;
  /** Another part of the clip was chosen. */
  readonly changed: () => void;
  readonly close: () => void;
}

/** The controls of one clip. What is chosen is written into it at once. */
export class TrimPanel {
  readonly element = make("section", { className: "trim" });
  readonly clip: Clip;
  readonly #host: TrimHost;
  readonly #url: string;
  readonly #video = make("video", { muted: true, playsInline: true, preload: "auto" });
  readonly #start = make("input", { type: "range", min: "0" });
  readonly #end = make("input", { type: "range", min: "0" });
  readonly #startText = make("output");
  readonly #endText = make("output");
  readonly #rate = make("input", { type: "number", min: "0.1", max: "30", step: "any" });
  readonly #strip = make("div", { className: "trim-strip" });
  readonly #fields = make("fieldset", { disabled: true });
  readonly #cost = make("p", { className: "small trim-cost" });
  readonly #load: HTMLButtonElement;
  #durationSeconds: number | undefined;
  #measuring = new AbortController();
  #closed = false;

  constructor(clip: Clip, host: TrimHost) {
    const words = trimWords();
    this.clip = clip;
    this.#host = host;
    this.#url = URL.createObjectURL(clip.file);
    this.element.setAttribute("aria-label", words.heading(nameOf(clip)));
    this.#strip.setAttribute("aria-hidden", "true");
    this.#cost.setAttribute("role", "status");
    this.#cost.textContent = words.reading;
    const row = (label: string, slider: HTMLInputElement, text: HTMLOutputElement) =>
      make("label", { className: "trim-row" }, make("span", {}, label), slider, text);
    const rate = make("label", { className: "trim-row rate" }, make("span", {}, words.frameRate));
    rate.append(this.#rate);
    this.#rate.value = String(clip.trim?.frameRate ?? frameChoice().frameRate ?? 1);
    this.#load = button("button quiet small", words.loadModel, () => {
      this.#load.disabled = true;
      void host.load().finally(() => {
        this.#load.disabled = false;
        this.measure();
      });
    });
    this.#load.hidden = true;
    this.#fields.append(
      row(words.start, this.#start, this.#startText),
      row(words.end, this.#end, this.#endText),
      this.#strip,
      rate,
    );
    const foot = make("div", { className: "trim-foot" }, this.#cost);
    foot.append(
      this.#load,
      button("button quiet small", words.whole, () => this.#takeWhole()),
      button("button small", words.done, host.close),
    );
    this.element.append(this.#video, this.#fields, foot);
    this.#start.addEventListener("input", () => this.#moved(this.#start));
    this.#end.addEventListener("input", () => this.#moved(this.#end));
    this.#rate.addEventListener("input", () => this.#choose());
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target instanceof HTMLInputElement) event.preventDefault();
      else if (event.key === "Escape") host.close();
      else return;
      event.stopPropagation(); // Neither asks, nor stops an answer.
    });
    void this.#open();
  }

  /** Lets go of the clip. */
  close(): void {
    this.#closed = true;
    this.#measuring.abort();
    this.#video.removeAttribute("src");
    this.#video.load();
    URL.revokeObjectURL(this.#url);
    this.element.remove();
  }

  /** Says what the part that is chosen costs; anew where a model was loaded, or goes. */
  measure(): void {
    void this.#measure().catch(() => {
      if (!this.#closed) this.#cost.textContent = trimWords().unreadable;
    });
  }

  async #open(): Promise<void> {
    const seconds = (await this.#playedSeconds()) ?? (await this.#measuredSeconds());
    if (this.#closed) return;
    if (seconds === undefined || !(seconds > 0)) {
      this.#cost.textContent = trimWords().unreadable;
      return;
    }
    this.#durationSeconds = seconds;
    const step = this.#step;
    const most = Math.ceil(Math.round((seconds / step) * 1000) / 1000);
    for (const slider of [this.#start, this.#end])
      Object.assign(slider, { step: String(step), max: (most * step).toFixed(1) });
    this.#start.value = String(this.clip.trim?.startSeconds ?? 0);
    this.#end.value = String(this.clip.trim?.endSeconds ?? this.#end.max);
    this.#fields.disabled = false;
    this.#show();
    this.measure();
    this.#start.focus();
  }

  /** How long the browser plays it; undefined where it can't. */
  #playedSeconds(): Promise<number | undefined> {
    const video = this.#video;
    return new Promise((resolve) => {
      video.addEventListener("loadedmetadata", () => {
        if (Number.isFinite(video.duration)) resolve(video.duration);
        else video.currentTime = BEHIND_THE_END;
      });
      video.addEventListener("durationchange", () => {
        if (video.duration > 0 && Number.isFinite(video.duration)) resolve(video.duration);
      });
      video.addEventListener("error", () => {
        video.hidden = true;
        resolve(undefined);
      });
      video.src = this.#url;
    });
  }

  async #measuredSeconds(): Promise<number | undefined> {
    const univi = this.#host.univi();
    const measured = univi?.measureClip({ video: this.clip.file });
    return (await measured?.catch(() => undefined))?.durationSeconds;
  }

  get #step(): number {
    return this.#durationSeconds! < FINE_SECONDS ? 0.1 : 1;
  }

  /** A slider was moved: the other one makes way. */
  #moved(slider: HTMLInputElement): void {
    const [start, end] = [this.#start, this.#end];
    const least = this.#step;
    if (slider === start) {
      start.valueAsNumber = Math.min(start.valueAsNumber, Number(start.max) - least);
      end.valueAsNumber = Math.max(end.valueAsNumber, start.valueAsNumber + least);
    } else {
      end.valueAsNumber = Math.max(end.valueAsNumber, least);
      start.valueAsNumber = Math.min(start.valueAsNumber, end.valueAsNumber - least);
    }
    this.#video.currentTime = Math.min(slider.valueAsNumber, this.#durationSeconds!);
    this.#choose();
  }

  #takeWhole(): void {
    [this.#start.value, this.#end.value] = ["0", this.#end.max];
    this.#rate.value = String(frameChoice().frameRate ?? 1);
    this.#choose();
  }

  #choose(): void {
    if (this.#durationSeconds === undefined) return;
    const rate = this.#rate.valueAsNumber;
    const valid = rate > 0 && rate <= MOST_PER_SECOND;
    this.#rate.setCustomValidity(valid ? "" : trimWords().wrongRate);
    const [start, end] = [this.#start.valueAsNumber, this.#end.valueAsNumber];
    const trim: FrameChoice = {
      ...(start > 0 ? { startSeconds: start } : {}),
      ...(end < Number(this.#end.max) ? { endSeconds: end } : {}),
      ...(valid && rate !== frameChoice().frameRate ? { frameRate: rate } : {}),
    };
    this.clip.trim = Object.keys(trim).length > 0 ? trim : undefined;
    this.#host.changed();
    this.#show();
    this.measure();
  }

  #show(): void {
    const most = Number(this.#end.max);
    for (const [slider, text] of [
      [this.#start, this.#startText],
      [this.#end, this.#endText],
    ] as const) {
      text.textContent = clock(slider.valueAsNumber);
      slider.setAttribute("aria-valuetext", text.textContent);
    }
    this.#strip.style.setProperty("--from", `${(100 * this.#start.valueAsNumber) / most}%`);
    this.#strip.style.setProperty("--to", `${(100 * this.#end.valueAsNumber) / most}%`);
  }

  async #measure(): Promise<void> {
    if (this.#durationSeconds === undefined) return;
    this.#measuring.abort();
    const { signal } = (this.#measuring = new AbortController());
    const words = trimWords();
    if (!this.#rate.validity.valid) {
      this.#cost.textContent = words.wrongRate;
      return;
    }
    const choice = { ...frameChoice(), ...this.clip.trim };
    const univi = this.#host.univi();
    this.#load.hidden = univi !== undefined;
    if (!univi?.info.vision) {
      this.#mark([]);
      this.#cost.textContent = words.noModel;
      return;
    }
    const measured = univi.measureClip(
      { video: this.clip.file, ...choice },
      { ...visualTokens(), signal },
    );
    const { timesSeconds, tokens } = await measured.catch((error: unknown) => {
      if (signal.aborted) return { timesSeconds: [], tokens: undefined };
      throw error;
    });
    if (tokens === undefined || signal.aborted) return;
    this.#mark(timesSeconds);
    const [from, to] = [this.#start.valueAsNumber, this.#end.valueAsNumber];
    const frames = timesSeconds.length;
    const wanted = Math.floor((to - from) * (choice.frameRate ?? 1));
    const capacity = univi.info.contextLength;
    this.#cost.classList.toggle("warns", tokens >= capacity);
    this.#cost.textContent = [
      `${words.part(clock(from), clock(Math.min(to, this.#durationSeconds)))}: ${words.frames(frames)}, ${words.tokens(number(tokens))}.`,
      ...(frames === choice.maxFrames && wanted > frames ? [words.most(frames)] : []),
      ...(tokens >= capacity ? [words.tooMany(number(capacity))] : []),
    ].join(" ");
  }

  /** Marks the frames that would be encoded. */
  #mark(timesSeconds: readonly number[]): void {
    const marks = timesSeconds.map((time) => {
      const mark = make("span");
      mark.style.setProperty("--at", `${(100 * time) / Number(this.#end.max)}%`);
      return mark;
    });
    this.#strip.replaceChildren(...marks);
  }
}
