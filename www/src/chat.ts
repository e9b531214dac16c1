/** The conversation: attachments and questions, the answers, and asking anew. */
import { type AskProgress, type TokenMap, type Session, type Univi, UniviError } from "univi";

import { hideAlert, showAlert, showWarning } from "./alert.js";
import { Camera, CameraRefused } from "./camera.js";
import { announce, button, byId, make, save } from "./dom.js";
import { asJson, keepOnly, keepTurn, keptTurns, type PastTurn } from "./history.js";
import type { ModelPanel } from "./model-panel.js";
import type { MetricsPanel } from "./metrics-panel.js";
import { clearTokenMap, drawLive, drawTokenMap } from "./token-map-panel.js";
import { askOptions, sessionOptions } from "./settings.js";
import { nameOf, partsOf, type Attachment, attachmentOf, thumb } from "./attachment.js";
import { TurnView } from "./turn.js";
import { words } from "./words/index.js";

/** What the camera saw is drawn anew at most so often. */
const LIVE_INTERVAL_MS = 3000;

const turns = byId("turns", HTMLOListElement);
const empty = byId("chat-empty", HTMLDivElement);
const suggestions = byId("suggestions", HTMLUListElement);
const form = byId("ask-form", HTMLFormElement);
const alert = byId("ask-alert", HTMLDivElement);
const attachmentList = byId("attachments", HTMLUListElement);
const attach = byId("attach", HTMLInputElement);
const question = byId("question", HTMLTextAreaElement);
const editing = byId("editing", HTMLParagraphElement);
const cameraOpen = byId("camera-open", HTMLButtonElement);
const cameraChoice = byId("camera-choice", HTMLSelectElement);
const askButton = byId("ask", HTMLButtonElement);
const stopButton = byId("stop", HTMLButtonElement);
const restart = byId("restart", HTMLButtonElement);
const exportButton = byId("export", HTMLButtonElement);

/** A turn that is over, and its view. */
interface Turn {
  readonly past: PastTurn;
  readonly view: TurnView;
}

/** A sample that was chosen for the next question. */
interface Sample {
  /** The question that was put into the form with it. */
  readonly proposal: string;
  /** What stands for it among the attachments. */
  attachment: Attachment | undefined;
  /** Whether it can be asked about. */
  arrived: Promise<boolean>;
}

/** The conversation of the page. It outlives models: each new one reads it again. */
export class Chat {
  readonly #model: ModelPanel;
  readonly #metrics: MetricsPanel;
  #turns: Turn[] = [];
  #session:
    | { readonly session: Session; readonly univi: Univi; readonly options: string }
    | undefined;
  #answering: AbortController | undefined;
  /** The turn that is being answered. */
  #coming: TurnView | undefined;
  #editing: number | undefined;
  /** Counts conversations: an answer belongs to the one that it was asked in. */
  #number = 0;
  #attached: readonly Attachment[] = [];
  #sample: Sample | undefined;
  #camera: Camera | undefined;
  #drawnLiveAt = 0;
  /** Questions that suit the attachments, and the model. */
  #suggested: {
    readonly attached?: readonly string[] | undefined;
    readonly model?: readonly string[] | undefined;
  } = {};

  constructor(model: ModelPanel, metrics: MetricsPanel) {
    this.#model = model;
    this.#metrics = metrics;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
    question.addEventListener("input", () => this.#update());
    question.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      void this.#submit();
    });
    stopButton.addEventListener("click", () => this.#answering?.abort());
    addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      if (this.#answering) this.#answering.abort();
      else this.#edit(undefined);
    });
    byId("edit-cancel", HTMLButtonElement).addEventListener("click", () => this.#edit(undefined));
    restart.addEventListener("click", () => void this.#startOver());
    exportButton.addEventListener("click", () =>
      save("conversation.json", asJson(this.#turns.map(({ past }) => past))),
    );
    cameraOpen.addEventListener("click", () => void this.#openCamera());
    cameraChoice.addEventListener("change", () => void this.#openCamera(cameraChoice.value));
    byId("camera-close", HTMLButtonElement).addEventListener("click", () => this.#closeCamera());
    attach.addEventListener("change", () => {
      this.show(attach.files ?? []);
      attach.value = "";
    });
    this.#update();
  }

  /** Takes up the conversation of the last visit. */
  async restore(): Promise<void> {
    const kept = await keptTurns();
    if (kept.length === 0 || this.#turns.length > 0) return;
    this.#turns = kept.map((past, index) => ({ past, view: this.#view(past, index) }));
    turns.replaceChildren(...this.#turns.map(({ view }) => view.element));
    this.#update();
    announce(words.restored(kept.length));
    const last = kept.findLast(({ attachments, tokenMaps }) => attachments[0] && tokenMaps[0]);
    if (last) await this.#drawTokenMap(last.attachments[0]!, last.tokenMaps[0]);
  }

  /** Says everything in the language that is spoken now. */
  translate(): void {
    this.#turns = this.#turns.map(({ past }, index) => ({ past, view: this.#view(past, index) }));
    turns.replaceChildren(
      ...this.#turns.map(({ view }) => view.element),
      ...(this.#coming ? [this.#coming.element] : []),
    );
    this.#setAttached(this.#attached);
    this.#drawSuggestions();
  }

  /** A model was loaded: it watches what the camera sees. */
  begin(univi: Univi): void {
    this.#camera?.watch(univi, (error) => this.#cameraFailed(error));
    this.#update();
  }

  /** The model goes; the conversation stays. */
  end(): void {
    this.#answering?.abort();
    this.#camera?.forget();
    this.#session = undefined;
    this.#update();
  }

  /** Settings have changed. */
  settingsChanged(): void {
    this.#camera?.settingsChanged();
    if (this.#model.univi)
      this.#camera?.watch(this.#model.univi, (error) => this.#cameraFailed(error));
  }

  /** Attaches pictures and clips to the next question. */
  show(files: Iterable<File>): void {
    hideAlert(alert);
    this.#setAttached([...this.#attached, ...[...files].map(attachmentOf)]);
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
    if (question.value.trim() === "" || question.value === this.#sample?.proposal)
      question.value = proposal;
    const before = this.#sample?.attachment;
    const sample: Sample = { proposal, attachment: before, arrived: Promise.resolve(true) };
    sample.arrived = opening.then(
      (file) => {
        if (this.#sample !== sample) return true; // Another one was chosen meanwhile.
        const others = this.#attached.filter((one) => one !== sample.attachment);
        sample.attachment = attachmentOf(file);
        this.#setAttached([...others, sample.attachment]);
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
    this.#update();
    question.focus();
  }

  /** Suggests what may be asked of the model, where nothing is known of the attachments. */
  suggest(questions: readonly string[] | undefined): void {
    this.#suggested = { ...this.#suggested, model: questions };
    this.#drawSuggestions();
  }

  // Asking.

  async #submit(): Promise<void> {
    const text = question.value.trim();
    if (this.#answering || text === "" || !form.reportValidity()) return;
    if (this.#sample && !(await this.#sample.arrived)) return;
    // Whoever asks wants the model, too.
    if (!(await this.#model.ready()) || this.#answering) return;
    const from = this.#editing ?? this.#turns.length;
    await this.#ask(text, this.#attached, from, undefined);
  }

  /** Asks in place of the turns from `from` on. */
  async #ask(
    text: string,
    attached: readonly Attachment[],
    from: number,
    seed: number | undefined,
  ): Promise<void> {
    const abort = (this.#answering = new AbortController());
    hideAlert(alert);
    try {
      await this.#turn(text, attached, from, seed, abort.signal);
    } catch (error) {
      showAlert(alert, error, this.#remedy(error));
    } finally {
      if (this.#answering === abort) this.#answering = undefined;
      this.#update();
    }
  }

  async #turn(
    text: string,
    attached: readonly Attachment[],
    from: number,
    seed: number | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const conversation = this.#number;
    const univi = this.#model.univi!;
    // What is attached comes before what goes on.
    const live =
      attached.length === 0
        ? this.#camera?.watch(univi, (error) => this.#cameraFailed(error))
        : undefined;
    this.#update();
    await live?.ready({ signal }).catch(() => {}); // Turned off or stopped meanwhile: asking will say so.
    const attachments = live && this.#camera ? [await this.#camera.attachment()] : attached;
    const askedAt = new Date();
    await this.#rewind(from);
    this.#edit(undefined);
    this.#setAttached([]);
    this.#sample = undefined;
    question.value = "";
    const tokenMaps: TokenMap[] = [];
    const view = new TurnView(text, attachments, {
      show: (one) => void this.#drawTokenMap(one, tokenMaps[attachments.indexOf(one)]),
      retry: () => this.#retry(from),
      edit: () => this.#edit(from),
    });
    this.#coming = view;
    turns.append(view.element);
    view.element.scrollIntoView({ block: "nearest" });
    this.#update();

    const model = univi.info.name;
    const past = { text, attachments, tokenMaps, model, askedAt };
    try {
      const usage = await this.#answer(view, past, signal, seed, live !== undefined);
      view.usage = usage;
      announce(view.text === "" ? words.saidNothing : words.answered(view.text));
      await this.#add({ ...past, answer: view.text, usage, stopped: false }, view, conversation);
      void this.#metrics.add(this.#model.univi!, usage, this.#session?.session.contextUsage);
    } catch (error) {
      if (!signal.aborted) {
        view.element.remove();
        question.value ||= text;
        if (this.#attached.length === 0 && !live) this.#setAttached(attachments);
        showAlert(alert, error, this.#remedy(error));
      } else {
        view.status = words.stopped;
        announce(words.stopped);
        await this.#add({ ...past, answer: view.text, stopped: true }, view, conversation);
      }
    } finally {
      view.end();
      this.#coming = undefined;
    }
  }

  /** Streams an answer into `view`. A GPU that goes away is begun anew, once. */
  async #answer(
    view: TurnView,
    past: Pick<PastTurn, "text" | "attachments" | "model"> & { tokenMaps: TokenMap[] },
    signal: AbortSignal,
    seed: number | undefined,
    live: boolean,
  ) {
    for (let attempt = 0; ; attempt++) {
      const univi = this.#model.univi!;
      const options = {
        ...askOptions(),
        ...(seed === undefined ? {} : { seed }),
        signal,
        onProgress: (progress: AskProgress) => (view.status = phaseOf(progress)),
      };
      const watching = live
        ? this.#camera?.watch(univi, (error) => this.#cameraFailed(error))
        : undefined;
      const answer = (watching ?? this.#conversation(univi)).ask(
        [...partsOf(past.attachments), { text: past.text }],
        options,
      );
      // After the first piece, which is not to wait for them.
      const note = async () => this.#note(past, await answer.tokenMaps(), view);
      try {
        let pieces = 0;
        for await (const piece of answer) {
          view.say(piece);
          if (pieces++ === 0) void note().catch(() => {});
        }
        await note();
        return answer.usage!;
      } catch (error) {
        await note().catch(() => {});
        const lost = error instanceof UniviError && error.code === "device-lost";
        if (!lost || attempt > 0 || signal.aborted) throw error;
        view.status = words.recovering;
        announce(words.recovering);
        view.restart();
        if (!(await this.#reload(signal))) throw error;
      }
    }
  }

  /** Loads the model again while a question waits for it. */
  async #reload(signal: AbortSignal): Promise<boolean> {
    const answering = this.#answering;
    this.#answering = undefined; // The model goes, but this question stays.
    await this.#model.load();
    if (!signal.aborted) this.#answering = answering;
    return this.#model.univi !== undefined && !signal.aborted;
  }

  /** The conversation as `univi` knows it: a new one reads what was said before. */
  #conversation(univi: Univi): Session {
    const options = sessionOptions();
    const key = JSON.stringify(options);
    if (this.#session?.univi === univi && this.#session.options === key)
      return this.#session.session;
    this.#session?.session.dispose();
    const messages = this.#turns.flatMap(({ past: { attachments, text, answer } }) => {
      if (!inSession(attachments)) return [];
      const parts = univi.info.vision ? partsOf(attachments) : [];
      return [
        { role: "user" as const, content: [...parts, { text }] },
        { role: "assistant" as const, content: answer },
      ];
    });
    const session = univi.session({ ...options, messages });
    this.#session = { session, univi, options: key };
    return session;
  }

  /** Forgets the turns from `from` on. */
  async #rewind(from: number): Promise<void> {
    if (from >= this.#turns.length) return;
    const gone = this.#turns.splice(from);
    for (const { view } of gone) view.element.remove();
    await keepOnly(from);
    const kept = this.#turns.filter(({ past }) => inSession(past.attachments)).length;
    await this.#session?.session.rewind(kept).catch(() => (this.#session = undefined)); // Then a new one reads what was said.
  }

  async #add(past: PastTurn, view: TurnView, conversation: number): Promise<void> {
    // A turn that was stopped before anything was said is no part of the conversation.
    if ((past.answer === "" && past.stopped) || conversation !== this.#number) return;
    this.#turns.push({ past, view });
    const fault = await keepTurn(this.#turns.length - 1, past);
    if (fault) showWarning(alert, fault === "full" ? words.notKept : words.notKeptPrivate);
  }

  #retry(index: number): void {
    const past = this.#turns[index]?.past;
    if (this.#answering || !past) return;
    const live = past.attachments[0]?.kind === "live";
    // The same seed would give the same answer.
    const seed = Math.floor(Math.random() * 2 ** 32);
    void this.#model.ready().then((univi) => {
      if (univi && !this.#answering)
        return this.#ask(past.text, live ? [] : past.attachments, index, seed);
      return undefined;
    });
  }

  /**
   * Takes a question up again, to be put in other words; without one, what was begun so is left.
   */
  #edit(index: number | undefined): void {
    if (index === undefined && this.#editing === undefined) return;
    this.#editing = index;
    editing.hidden = index === undefined;
    const past = index === undefined ? undefined : this.#turns[index]?.past;
    question.value = past?.text ?? "";
    this.#setAttached(past && inSession(past.attachments) ? past.attachments : []);
    this.#update();
    question.focus();
  }

  async #startOver(): Promise<void> {
    this.#number++;
    this.#answering?.abort();
    this.#session?.session.dispose();
    this.#session = undefined;
    this.#turns = [];
    turns.replaceChildren();
    this.#suggested = { model: this.#suggested.model };
    this.#sample = undefined;
    this.#drawSuggestions();
    this.#edit(undefined);
    hideAlert(alert);
    clearTokenMap();
    this.#update();
    await keepOnly(0);
  }

  /** A turn of an earlier visit. */
  #view(past: PastTurn, index: number): TurnView {
    const { text, attachments, tokenMaps, answer, usage, stopped } = past;
    const view = new TurnView(text, attachments, {
      show: (one) => void this.#drawTokenMap(one, tokenMaps[attachments.indexOf(one)]),
      retry: () => this.#retry(index),
      edit: () => this.#edit(index),
    });
    view.say(answer);
    if (stopped) view.status = words.stopped;
    else if (usage) view.usage = usage;
    view.end();
    return view;
  }

  // Attachments and their token maps.

  /** Takes over the token maps, and draws the first of them. */
  #note(
    past: { readonly attachments: readonly Attachment[]; readonly tokenMaps: TokenMap[] },
    tokenMaps: readonly TokenMap[],
    view: TurnView,
  ): void {
    if (past.tokenMaps.length >= tokenMaps.length) return;
    past.tokenMaps.splice(0, past.tokenMaps.length, ...tokenMaps);
    const [first] = past.attachments;
    if (first) void this.#drawTokenMap(first, tokenMaps[0], view);
  }

  async #drawTokenMap(
    attachment: Attachment,
    tokenMap: TokenMap | undefined,
    view?: TurnView,
  ): Promise<void> {
    if (!tokenMap) return;
    for (const turn of this.#turns) turn.view.mark(attachment);
    view?.mark(attachment);
    await drawTokenMap(attachment, tokenMap).catch(() => {}); // A picture that can't be drawn was said to be none.
  }

  #setAttached(attachments: readonly Attachment[]): void {
    this.#attached = attachments;
    const items = attachments.map((one) => {
      const remove = button(
        "remove",
        "×",
        () => this.#setAttached(this.#attached.filter((other) => other !== one)),
        words.removeOne(nameOf(one)),
      );
      return make("li", { className: "attachment" }, thumb(one), remove);
    });
    attachmentList.replaceChildren(...items);
  }

  #drawSuggestions(): void {
    const items = (this.#suggested.attached ?? this.#suggested.model ?? words.suggestions).map(
      (text) => {
        const choose = () => {
          question.value = text;
          this.#update();
          question.focus();
        };
        return make("li", {}, button("", text, choose));
      },
    );
    suggestions.replaceChildren(...items);
  }

  // The camera.

  async #openCamera(deviceId?: string): Promise<void> {
    this.#closeCamera();
    hideAlert(alert);
    try {
      this.#camera = await Camera.open(deviceId, () => void this.#drawLive());
      if (this.#model.univi) this.begin(this.#model.univi);
      cameraOpen.hidden = true;
      announce(words.cameraOn);
      question.focus();
    } catch (error) {
      if (error instanceof CameraRefused) showWarning(alert, error.message);
      else showAlert(alert, error);
    }
  }

  #closeCamera(): void {
    this.#camera?.close();
    this.#camera = undefined;
    cameraOpen.hidden = false;
  }

  #cameraFailed(error: unknown): void {
    if (this.#camera?.live?.state === "ended") this.#closeCamera();
    showAlert(alert, error, this.#remedy(error));
  }

  /** Draws the window that goes on, now and then, while nobody waits for an answer. */
  async #drawLive(): Promise<void> {
    const camera = this.#camera;
    const live = camera?.live;
    if (
      !live ||
      this.#answering ||
      document.hidden ||
      performance.now() - this.#drawnLiveAt < LIVE_INTERVAL_MS
    )
      return;
    this.#drawnLiveAt = performance.now();
    const tokenMap = await live.tokenMap().catch(() => undefined); // It was turned off meanwhile.
    if (tokenMap && camera === this.#camera && !this.#answering)
      await drawLive(camera.stills, tokenMap);
  }

  #remedy(error: unknown): HTMLButtonElement | undefined {
    if (!(error instanceof UniviError)) return undefined;
    if (error.code === "context-overflow")
      return button("button small", words.startOver, () => void this.#startOver());
    if (error.code === "device-lost" || error.code === "internal")
      return button("button small", words.loadAgain, () => void this.#model.load());
    return undefined;
  }

  #update(): void {
    const busy = this.#answering !== undefined;
    askButton.disabled = busy || question.value.trim() === "";
    askButton.hidden = busy;
    stopButton.hidden = !busy;
    const none = turns.childElementCount === 0;
    restart.disabled = exportButton.disabled = none;
    empty.hidden = !none;
  }
}

/** Whether it is part of the conversation: what is asked about the camera stands by itself. */
function inSession(attachments: readonly Attachment[]): boolean {
  return attachments.every(({ kind }) => kind !== "live");
}

function phaseOf({ phase, loaded, total }: AskProgress): string {
  if (phase === "frames") return words.decoding(loaded, total);
  if (phase === "encode") return total > 1 ? words.encodingOf(loaded + 1, total) : words.encoding;
  return words.readingQuestion;
}
