/**
 * One turn of the conversation: what was asked, the answer as it comes, what to know of it, and
 * what can be done with both.
 */
import type { Usage } from "univi";

import { type Attachment, nameOf, thumb } from "./attachment.js";
import { announce, button, icon, make } from "./dom.js";
import { number } from "./format.js";
import { words } from "./words/index.js";

/** What draws Markdown, which comes once there is something to draw. */
let toNodes: typeof import("univi/markdown").markdown | undefined;
let reading: Promise<void> | undefined;

/** Fetches it. */
function readMarkdown(): Promise<void> {
  reading ??= import("univi/markdown").then(
    (module) => void (toNodes = module.markdown),
    () => void (reading = undefined), // Without a network, answers are read as they are written.
  );
  return reading;
}

/** The turn that is being read aloud. */
let reader: { readonly by: TurnView; readonly stop: AbortController } | undefined;

/** What a turn's buttons do. */
export interface TurnActions {
  readonly show: (attachment: Attachment) => void;
  readonly retry: () => void;
  readonly edit: () => void;
  /** Returns a link to the question. */
  readonly link: () => Promise<string>;
  readonly showPhotoModels: () => void;
  /** Asks the same without what came before. */
  readonly askAlone: () => void;
  /** Takes another one of several answers. */
  readonly choose: (version: number) => void;
  /** Plays the clip of this turn from a moment on; absent where it has none. */
  readonly seek?: ((seconds: number) => void) | undefined;
}

/** What to know of an answer before it is believed. */
export interface Caveats {
  /** The model knows emoji alone, and was shown something else. */
  readonly emojiOnly: boolean;
  /** Pictures and clips of earlier turns, which the model read before this question. */
  readonly earlier: readonly Attachment[];
  /** Turns that had no room any more. */
  readonly dropped: number;
}

/** A turn as the page shows it. */
export class TurnView {
  readonly element = make("li", { className: "turn" });
  readonly #actions: TurnActions;
  readonly #model: string;
  readonly #pictures = new Map<Attachment, HTMLButtonElement>();
  readonly #answer = make("div", { className: "answer" });
  readonly #caveats = make("div", { className: "caveats" });
  readonly #versions = make("span", { className: "versions", hidden: true });
  readonly #metrics = make("p", { className: "metrics" });
  /** The answer as the model wrote it. */
  #text = "";
  #drawing = 0;
  readonly #buttons = make("p", { className: "turn-actions", hidden: true });

  constructor(
    question: string,
    attachments: readonly Attachment[],
    model: string,
    actions: TurnActions,
  ) {
    this.#actions = actions;
    this.#model = model;
    const asked = make("div", { className: "asked" });
    if (attachments.length > 0) {
      for (const one of attachments) {
        const picture = make(
          "button",
          { type: "button", title: words.seeAsModel(nameOf(one)) },
          thumb(one),
        );
        picture.setAttribute("aria-label", picture.title);
        picture.setAttribute("aria-pressed", "false");
        picture.addEventListener("click", () => actions.show(one));
        this.#pictures.set(one, picture);
      }
      asked.append(make("div", { className: "turn-attachments" }, ...this.#pictures.values()));
    }
    asked.append(make("p", { className: "asked-text" }, question));
    const tool = (name: string, text: string, act: () => void, label: string, className = "") => {
      const made = button(`button quiet small tool ${className}`, "", act, label);
      made.append(icon(name), make("span", {}, text));
      return made;
    };
    const copy = tool("copy", words.copy, () => void this.#copyAnswer(copy), words.copyAnswer);
    const retry = tool("retry", words.retry, actions.retry, words.retryQuestion, "retry");
    const edit = tool("edit", words.edit, actions.edit, words.editQuestion);
    const link = tool("link", words.link, () => void this.#copyLink(link), words.copyLink);
    this.#buttons.append(this.#versions, copy, retry, edit, link);
    if ("speechSynthesis" in globalThis) {
      const speak = tool(
        "speak",
        words.readAloud,
        () => void this.#readAloud(speak),
        words.readAnswer,
      );
      this.#buttons.append(speak);
    }
    if (!toNodes) void readMarkdown().then(() => this.#draw());
    this.#answer.setAttribute("aria-busy", "true");
    const by = make("p", { className: "by" }, icon("mark", "mark"), model);
    const reply = make("div", { className: "reply" }, by, this.#answer);
    reply.append(this.#caveats, this.#metrics, this.#buttons);
    this.element.append(asked, reply);
  }

  /** Adds to the answer. */
  say(piece: string): void {
    this.element.classList.remove("encoding");
    this.#text += piece;
    this.#drawing ||= requestAnimationFrame(() => this.#draw());
  }

  /** The answer so far, as the model wrote it. */
  get text(): string {
    return this.#text;
  }

  /** Says that there are several answers, and which of them this is. */
  showVersions(chosen: number, of: number): void {
    const step = (by: number, text: string, label: string) => {
      const made = button(
        "button quiet small tool",
        text,
        () => this.#actions.choose(chosen + by),
        label,
      );
      made.disabled = chosen + by < 0 || chosen + by >= of;
      return made;
    };
    this.#versions.replaceChildren(
      step(-1, "‹", words.earlierAnswer),
      make("span", {}, words.answerOf(chosen + 1, of)),
      step(1, "›", words.laterAnswer),
    );
    this.#versions.hidden = false;
  }

  /** Says what is being done. */
  set status(text: string) {
    this.#metrics.textContent = text;
  }

  /** Whether its pictures are being encoded. */
  set encoding(encodes: boolean) {
    this.element.classList.toggle("encoding", encodes);
  }

  /** Says what to know of the answer. */
  set caveats({ emojiOnly, earlier, dropped }: Caveats) {
    const lines: HTMLElement[] = [];
    if (emojiOnly) {
      const text = make("span", {}, words.knowsEmoji(this.#model));
      const help = button("button quiet small", words.photoModels, this.#actions.showPhotoModels);
      lines.push(make("p", { className: "caveat warns" }, text, help));
    }
    if (dropped > 0)
      lines.push(make("p", { className: "caveat warns" }, words.droppedTurns(dropped)));
    if (earlier.length > 0) {
      const pictures = make("span", { className: "caveat-pictures" }, ...earlier.map(thumb));
      const alone = button("button quiet small", words.askAlone, this.#actions.askAlone);
      const before = words.readBefore(earlier.length);
      lines.push(make("p", { className: "caveat" }, before, pictures, alone));
    }
    this.#caveats.replaceChildren(...lines);
  }

  /** Says what it took, and that nothing was said where that is so. */
  set usage({
    promptTokens,
    visualTokens,
    completionTokens,
    timeToFirstTokenMs,
    tokensPerSecond,
  }: Usage) {
    const took = words.usage(
      promptTokens,
      visualTokens,
      completionTokens,
      number(timeToFirstTokenMs / 1000, 2),
    );
    const spoken =
      completionTokens > 1 ? `${took}, ${words.tokensPerSecond(number(tokensPerSecond, 1))}` : took;
    this.#metrics.textContent = this.text === "" ? `${words.saidNothing} ${took}` : spoken;
  }

  /** Marks which of its pictures is being looked at. */
  mark(chosen: Attachment | undefined): void {
    for (const [attachment, picture] of this.#pictures)
      picture.setAttribute("aria-pressed", String(attachment === chosen));
  }

  /** No more will come. */
  end(): void {
    this.element.classList.remove("encoding");
    this.#draw();
    this.#answer.setAttribute("aria-busy", "false");
    this.#buttons.hidden = false;
  }

  /** The answer begins anew. */
  restart(): void {
    this.#text = "";
    this.#draw();
  }

  /** Draws the answer as far as it has come; as it is written until Markdown can be read. */
  #draw(): void {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = 0;
    const { seek } = this.#actions;
    const moment = (written: string, seconds: number) =>
      button("moment", written, () => seek?.(seconds), words.playFrom(written));
    const drawn = toNodes?.(this.#text, seek && moment) ?? [this.#text];
    this.#answer.replaceChildren(...drawn);
    this.#answer.classList.toggle("drawn", toNodes !== undefined);
    this.#answer.dataset.written = this.#text;
  }

  /** Reads the answer aloud, or stops that. */
  async #readAloud(speak: HTMLButtonElement): Promise<void> {
    if (reader?.by === this) {
      reader.stop.abort();
      return;
    }
    reader?.stop.abort();
    const stop = new AbortController();
    reader = { by: this, stop };
    speak.setAttribute("aria-pressed", "true");
    const { readAloud } = await import("./speech.js");
    // A conversation that is left takes its voice along.
    const leaving = setInterval(() => this.element.isConnected || stop.abort(), 500);
    const why = await readAloud(this.text, stop.signal);
    clearInterval(leaving);
    if (reader?.stop === stop) reader = undefined;
    speak.setAttribute("aria-pressed", "false");
    if (why === undefined) return;
    this.#metrics.textContent = why;
    announce(why);
  }

  #copyAnswer(pressed: HTMLButtonElement): Promise<void> {
    return copy(this.text, pressed, words.copy);
  }

  async #copyLink(pressed: HTMLButtonElement): Promise<void> {
    await copy(await this.#actions.link(), pressed, words.link);
  }
}

/** Copies a text, and says so on the button that was pressed, whose own text is `label`. */
async function copy(text: string, pressed: HTMLButtonElement, label: string): Promise<void> {
  await navigator.clipboard.writeText(text);
  const shown = pressed.querySelector("span")!;
  shown.textContent = words.copied;
  announce(words.copied);
  setTimeout(() => (shown.textContent = label), 2000);
}
