/**
 * The composer: the question, what is attached to it, samples, and what may be asked. It stays in
 * sight, and nothing but the person overwrites what is in it.
 */
import type { Univi } from "univi";

import { hideAlert, showAlert } from "./alert.js";
import { type Attachment, attachmentOf, nameOf, thumb } from "./attachment.js";
import { button, byId, make } from "./dom.js";
import type { TrimPanel } from "./trim.js";
import { words } from "./words/index.js";

const form = byId("ask-form", HTMLFormElement);
const alert = byId("ask-alert", HTMLDivElement);
const attachmentList = byId("attachments", HTMLUListElement);
const attach = byId("attach", HTMLInputElement);
const question = byId("question", HTMLTextAreaElement);
const editing = byId("editing", HTMLParagraphElement);
const suggestions = byId("suggestions", HTMLUListElement);
const askButton = byId("ask", HTMLButtonElement);
const stopButton = byId("stop", HTMLButtonElement);
const dock = byId("dock", HTMLDivElement);

/** Firefox does not size a field by its text yet. */
const SIZES_ITSELF = CSS.supports("field-sizing", "content");

/** A sample that was chosen for the next question. */
interface Sample {
  /** The question that was put into the form with it. */
  readonly proposal: string;
  /** What stands for it among the attachments. */
  attachment: Attachment | undefined;
  /** Whether it can be asked about. */
  arrived: Promise<boolean>;
}

/** What the composer's buttons do. */
export interface ComposerActions {
  readonly submit: () => void;
  readonly stop: () => void;
  readonly leaveEdit: () => void;
  /** The model, where one is loaded. */
  readonly univi: () => Univi | undefined;
  readonly load: () => Promise<unknown>;
}

/** The form at the foot of the conversation. */
export class Composer {
  #attached: readonly Attachment[] = [];
  #sample: Sample | undefined;
  /** Where a clip is being trimmed. */
  #trim: TrimPanel | undefined;
  #trimming: Attachment | undefined;
  readonly #actions: ComposerActions;
  #busy = false;
  /** Questions that suit the attachments, and the model. */
  #suggested: {
    readonly attached?: readonly string[] | undefined;
    readonly model?: readonly string[] | undefined;
  } = {};

  constructor(actions: ComposerActions) {
    this.#actions = actions;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      actions.submit();
    });
    question.addEventListener("input", () => this.#update());
    question.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      actions.submit();
    });
    stopButton.addEventListener("click", actions.stop);
    byId("edit-cancel", HTMLButtonElement).addEventListener("click", actions.leaveEdit);
    attach.addEventListener("change", () => {
      this.show(attach.files ?? []);
      attach.value = "";
    });
    // What is scrolled into view is not to lie behind it.
    new ResizeObserver(() =>
      document.documentElement.style.setProperty("--dock", `${dock.offsetHeight}px`),
    ).observe(dock);
    this.#update();
  }

  /** The question as it stands there. */
  get text(): string {
    return question.value;
  }
  set text(text: string) {
    question.value = text;
    this.#update();
  }

  /** The question as it stands there, else the first that suits. */
  get proposal(): string {
    return this.text.trim() || (suggestions.querySelector("button")?.textContent ?? "");
  }

  /** What is attached to it. */
  get attached(): readonly Attachment[] {
    return this.#attached;
  }
  set attached(attachments: readonly Attachment[]) {
    this.#attached = attachments;
    if (this.#trimming && !attachments.includes(this.#trimming)) this.#closeTrim();
    const items = attachments.map((one) => {
      const remove = button(
        "remove",
        "×",
        () => {
          this.attached = this.#attached.filter((other) => other !== one);
          question.focus();
        },
        words.removeOne(nameOf(one)),
      );
      const item = make("li", { className: "attachment" }, thumb(one), remove);
      if (one.kind === "clip") {
        const trim = button("trim-open", words.trim, () => void this.#toggleTrim(one, trim));
        trim.setAttribute("aria-expanded", String(one === this.#trimming));
        trim.classList.toggle("trimmed", one.trim !== undefined);
        item.append(trim);
      }
      return item;
    });
    attachmentList.replaceChildren(...items);
  }

  /** Whether an answer is on its way, so that none can be asked for. */
  set busy(busy: boolean) {
    this.#busy = busy;
    this.#update();
  }

  /** Whether an earlier question is being put anew. */
  set editing(edits: boolean) {
    editing.hidden = !edits;
  }

  /** Where what goes wrong with a question is said. */
  get alert(): HTMLElement {
    return alert;
  }

  /** Waits for a sample on its way -> whether all that is attached can be asked about. */
  async complete(): Promise<boolean> {
    return (await this.#sample?.arrived) ?? true;
  }

  /** Whether the settings are such that a question can be put; says what is wrong with them. */
  valid(): boolean {
    return form.reportValidity();
  }

  focus(): void {
    question.focus();
  }

  /** The question was put: the next one begins. */
  clear(): void {
    this.#sample = undefined;
    this.attached = [];
    this.text = "";
  }

  /** Forgets what suits attachments that are gone. */
  forgetSample(): void {
    this.#sample = undefined;
    this.#suggested = { model: this.#suggested.model };
    this.#drawSuggestions();
  }

  /** A model was loaded, or goes: costs are others. */
  modelChanged(): void {
    this.#trim?.measure();
  }

  async #toggleTrim(
    clip: Attachment & { readonly kind: "image" | "clip" },
    opener: HTMLButtonElement,
  ): Promise<void> {
    const opens = this.#trimming !== clip;
    this.#closeTrim();
    if (!opens) return;
    this.#trimming = clip;
    opener.setAttribute("aria-expanded", "true");
    const { TrimPanel } = await import("./trim.js");
    if (this.#trimming !== clip || this.#trim) return; // Pressed again meanwhile, or removed.
    this.#trim = new TrimPanel(clip, {
      ...this.#actions,
      changed: () =>
        attachmentList
          .querySelector("[aria-expanded=true]")
          ?.classList.toggle("trimmed", clip.trim !== undefined),
      close: () => {
        const index = this.#attached.indexOf(clip);
        this.#closeTrim();
        attachmentList.children[index]?.querySelector<HTMLElement>(".trim-open")?.focus();
      },
    });
    attachmentList.after(this.#trim.element);
  }

  #closeTrim(): void {
    this.#trim?.close();
    this.#trim = this.#trimming = undefined;
    for (const open of attachmentList.querySelectorAll("[aria-expanded]"))
      open.setAttribute("aria-expanded", "false");
  }

  /** Says everything in the language that is spoken now. */
  translate(): void {
    this.#closeTrim();
    this.attached = this.#attached;
    this.#drawSuggestions();
  }

  /** Attaches pictures and clips. */
  show(files: Iterable<File>): void {
    hideAlert(alert);
    this.attached = [...this.#attached, ...[...files].map((file) => attachmentOf(file))];
    question.focus();
  }

  /**
   * Attaches a sample, in place of the one before, with what may be asked about it.
   *
   * What a person typed or attached stays. A question that is put while the sample is on its way
   * waits for it.
   */
  showSample(opening: Promise<File>, questions: readonly string[]): void {
    hideAlert(alert);
    this.#suggested = { ...this.#suggested, attached: questions };
    this.#drawSuggestions();
    const proposal = questions[0] ?? "";
    if (this.text.trim() === "" || this.text === this.#sample?.proposal) this.text = proposal;
    const before = this.#sample?.attachment;
    const sample: Sample = { proposal, attachment: before, arrived: Promise.resolve(true) };
    sample.arrived = opening.then(
      (file) => {
        if (this.#sample !== sample) return true; // Another one was chosen meanwhile.
        const others = this.#attached.filter((one) => one !== sample.attachment);
        sample.attachment = attachmentOf(file, true);
        this.attached = [...others, sample.attachment];
        return true;
      },
      (error: unknown) => {
        if (this.#sample !== sample) return true;
        this.#sample = undefined;
        showAlert(alert, error);
        return false;
      },
    );
    this.#sample = sample;
    question.focus();
  }

  /** Suggests what may be asked of the model, where nothing is known of the attachments. */
  suggest(questions: readonly string[] | undefined): void {
    this.#suggested = { ...this.#suggested, model: questions };
    this.#drawSuggestions();
  }

  #drawSuggestions(): void {
    const texts = this.#suggested.attached ?? this.#suggested.model ?? words.suggestions;
    const items = texts.map((text) => {
      const choose = () => {
        this.text = text;
        question.focus();
      };
      return make("li", {}, button("", text, choose));
    });
    suggestions.replaceChildren(...items);
    suggestions.scrollLeft = 0;
  }

  #update(): void {
    askButton.disabled = this.#busy || question.value.trim() === "";
    askButton.hidden = this.#busy;
    stopButton.hidden = !this.#busy;
    if (SIZES_ITSELF) return;
    question.style.height = "auto";
    question.style.height = `${question.scrollHeight}px`;
  }
}
