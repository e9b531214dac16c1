/**
 * One turn of the conversation: what was asked, the answer as it comes, and what can be done with
 * both.
 */
import type { Usage } from "univi";

import { announce, button, make } from "./dom.js";
import { number } from "./format.js";
import { nameOf, type Attachment, thumb } from "./attachment.js";
import { words } from "./words/index.js";

/** What a turn's buttons do. */
export interface TurnActions {
  readonly show: (attachment: Attachment) => void;
  readonly retry: () => void;
  readonly edit: () => void;
}

/** A turn as the page shows it. */
export class TurnView {
  readonly element = make("li", { className: "turn" });
  readonly #pictures = new Map<Attachment, HTMLButtonElement>();
  readonly #answer = make("p", { className: "answer" });
  readonly #metrics = make("p", { className: "metrics" });
  readonly #actions = make("p", { className: "turn-actions", hidden: true });

  constructor(question: string, attachments: readonly Attachment[], actions: TurnActions) {
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
    const copy = button(
      "button quiet small",
      words.copy,
      () => void this.#copy(copy),
      words.copyAnswer,
    );
    const retry = button(
      "button quiet small retry",
      words.retry,
      actions.retry,
      words.retryQuestion,
    );
    const edit = button("button quiet small", words.edit, actions.edit, words.editQuestion);
    this.#actions.append(copy, retry, edit);
    this.#answer.setAttribute("aria-busy", "true");
    this.element.append(asked, this.#answer, this.#metrics, this.#actions);
  }

  /** Adds to the answer. */
  say(piece: string): void {
    this.#answer.append(piece);
  }

  /** The answer so far. */
  get text(): string {
    return this.#answer.textContent ?? "";
  }

  /** Says what is being done. */
  set status(text: string) {
    this.#metrics.textContent = text;
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
    this.#answer.setAttribute("aria-busy", "false");
    this.#actions.hidden = false;
  }

  /** The answer begins anew. */
  restart(): void {
    this.#answer.replaceChildren();
  }

  async #copy(copy: HTMLButtonElement): Promise<void> {
    await navigator.clipboard.writeText(this.text);
    copy.textContent = words.copied;
    announce(words.copied);
    setTimeout(() => (copy.textContent = words.copy), 2000);
  }
}
