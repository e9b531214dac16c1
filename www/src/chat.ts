/** The conversation: attachments and questions, the answers, and asking anew. */
import { type AskProgress, type TokenMap, type Session, type Univi, UniviError } from "univi";

import { hideAlert, showAlert, showWarning } from "./alert.js";
import { type Attachment, isOfTheWorld, partsOf } from "./attachment.js";
import { Camera, CameraRefused } from "./camera.js";
import { Composer } from "./composer.js";
import { showContext, translateContext } from "./context-meter.js";
import { announce, button, byId, save } from "./dom.js";
import { isCovered } from "./drawer.js";
import { asJson, keepOnly, keepTurn, keptTurns, type PastTurn } from "./history.js";
import type { MetricsPanel } from "./metrics-panel.js";
import type { ModelPanel } from "./model-panel.js";
import { knowsOnlyEmoji } from "./models.js";
import { followEnd, toEnd } from "./scroll.js";
import { askOptions, sessionOptions } from "./settings.js";
import { showSide } from "./side.js";
import { clearTokenMap, drawLive, drawTokenMap } from "./token-map-panel.js";
import { type Caveats, TurnView } from "./turn.js";
import { words } from "./words/index.js";

/** What the camera saw is drawn anew at most so often. */
const LIVE_INTERVAL_MS = 3000;

const turns = byId("turns", HTMLOListElement);
const empty = byId("chat-empty", HTMLDivElement);
const cameraOpen = byId("camera-open", HTMLButtonElement);
const cameraChoice = byId("camera-choice", HTMLSelectElement);
const restart = byId("restart", HTMLButtonElement);
const exportButton = byId("export", HTMLButtonElement);

/** A turn that is over, and its view. */
interface Turn {
  readonly past: PastTurn;
  readonly view: TurnView;
}

/** The conversation of the page. It outlives models: each new one reads it again. */
export class Chat {
  readonly #model: ModelPanel;
  readonly #metrics: MetricsPanel;
  readonly #composer: Composer;
  #turns: Turn[] = [];
  #session:
    | {
        readonly session: Session;
        readonly univi: Univi;
        readonly options: string;
        /** Turns that it forgot for want of room. */
        dropped: number;
      }
    | undefined;
  #answering: AbortController | undefined;
  /** The turn that is being answered. */
  #coming: TurnView | undefined;
  #editing: number | undefined;
  /** Counts conversations: an answer belongs to the one that it was asked in. */
  #number = 0;
  #camera: Camera | undefined;
  #drawnLiveAt = 0;

  constructor(model: ModelPanel, metrics: MetricsPanel) {
    this.#model = model;
    this.#metrics = metrics;
    this.#composer = new Composer({
      submit: () => void this.#submit(),
      stop: () => this.#answering?.abort(),
      leaveEdit: () => this.#edit(undefined),
    });
    addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || isCovered()) return;
      if (this.#answering) this.#answering.abort();
      else this.#edit(undefined);
    });
    restart.addEventListener("click", () => void this.#startOver());
    exportButton.addEventListener("click", () =>
      save("conversation.json", asJson(this.#turns.map(({ past }) => past))),
    );
    cameraOpen.addEventListener("click", () => void this.#openCamera());
    cameraChoice.addEventListener("change", () => void this.#openCamera(cameraChoice.value));
    byId("camera-close", HTMLButtonElement).addEventListener("click", () => this.#closeCamera());
    followEnd(byId("main", HTMLElement));
    this.#update();
  }

  /** What is asked next. */
  get composer(): Composer {
    return this.#composer;
  }

  /** Takes up the conversation of the last visit. */
  async restore(): Promise<void> {
    const kept = await keptTurns();
    if (kept.length === 0 || this.#turns.length > 0) return;
    this.#turns = kept.map((past, index) => ({ past, view: this.#view(kept, index) }));
    turns.replaceChildren(...this.#turns.map(({ view }) => view.element));
    this.#update();
    announce(words.restored(kept.length));
    toEnd();
    const last = kept.findLast(({ attachments, tokenMaps }) => attachments[0] && tokenMaps[0]);
    if (last) await this.#drawTokenMap(last.attachments[0]!, last.tokenMaps[0]);
  }

  /** Says everything in the language that is spoken now. */
  translate(): void {
    const pasts = this.#turns.map(({ past }) => past);
    this.#turns = pasts.map((past, index) => ({ past, view: this.#view(pasts, index) }));
    turns.replaceChildren(
      ...this.#turns.map(({ view }) => view.element),
      ...(this.#coming ? [this.#coming.element] : []),
    );
    this.#composer.translate();
    translateContext();
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
    showContext(undefined);
    this.#update();
  }

  /** Settings have changed. */
  settingsChanged(): void {
    this.#camera?.settingsChanged();
    if (this.#model.univi)
      this.#camera?.watch(this.#model.univi, (error) => this.#cameraFailed(error));
  }

  // Asking.

  async #submit(): Promise<void> {
    const composer = this.#composer;
    const text = composer.text.trim();
    if (this.#answering || text === "" || !composer.valid()) return;
    if (!(await composer.complete())) return;
    // Whoever asks wants the model, too.
    if (!(await this.#model.ready()) || this.#answering) return;
    const from = this.#editing ?? this.#turns.length;
    await this.#ask(text, composer.attached, from, undefined);
  }

  /** Asks in place of the turns from `from` on. */
  async #ask(
    text: string,
    attached: readonly Attachment[],
    from: number,
    seed: number | undefined,
  ): Promise<void> {
    const abort = (this.#answering = new AbortController());
    const { alert } = this.#composer;
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
    this.#composer.clear();
    const model = univi.info.name;
    const modelLabel = this.#model.label;
    const tokenMaps: TokenMap[] = [];
    const view = this.#newView({ text, attachments, modelLabel, model }, from, tokenMaps);
    view.caveats = this.#caveats({ attachments, model }, from, this.#pasts);
    view.encoding = attachments.length > 0;
    this.#coming = view;
    turns.append(view.element);
    this.#update();
    toEnd();

    const past = { text, attachments, tokenMaps, model, modelLabel, askedAt };
    const { alert } = this.#composer;
    try {
      const usage = await this.#answer(view, past, signal, seed, live !== undefined);
      const over = { ...past, answer: view.text, usage, stopped: false, readFrom: this.#readFrom };
      view.usage = usage;
      view.caveats = this.#caveats(over, from, this.#pasts);
      announce(view.text === "" ? words.saidNothing : words.answered(view.text));
      await this.#add(over, view, conversation);
      const context = this.#session?.session.contextUsage;
      showContext(context);
      void this.#metrics.add(this.#model.univi!, usage, context);
    } catch (error) {
      if (!signal.aborted) {
        view.element.remove();
        this.#composer.text ||= text;
        if (this.#composer.attached.length === 0 && !live) this.#composer.attached = attachments;
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
        onProgress: (progress: AskProgress) => {
          view.status = phaseOf(progress);
          view.encoding = progress.phase !== "answer";
        },
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
        if (!watching && this.#session) this.#session.dropped += answer.usage!.droppedTurns;
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
    const options = { ...sessionOptions(), overflow: "drop-oldest" } as const;
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
    this.#session = { session, univi, options: key, dropped: 0 };
    return session;
  }

  /** Forgets the turns from `from` on. */
  async #rewind(from: number): Promise<void> {
    if (from >= this.#turns.length) return;
    const gone = this.#turns.splice(from);
    for (const { view } of gone) view.element.remove();
    await keepOnly(from);
    const kept = this.#turns.filter(({ past }) => inSession(past.attachments)).length;
    const { session, dropped = 0 } = this.#session ?? {};
    // Where it forgot those, too, a new one reads what was said.
    if (dropped > kept) this.#endSession();
    else await session?.rewind(kept - dropped).catch(() => this.#endSession());
  }

  #endSession(): void {
    this.#session?.session.dispose();
    this.#session = undefined;
  }

  get #pasts(): PastTurn[] {
    return this.#turns.map(({ past }) => past);
  }

  /** The first turn that the model read for the question that comes now. */
  get #readFrom(): number {
    let dropped = this.#session?.dropped ?? 0;
    const first = this.#turns.findIndex(
      ({ past }) => inSession(past.attachments) && dropped-- === 0,
    );
    return first < 0 ? this.#turns.length : first;
  }

  /** What to know of the answer to a question behind the turns before `index`. */
  #caveats(
    { attachments, model, readFrom = 0 }: Pick<PastTurn, "attachments" | "model" | "readFrom">,
    index: number,
    turns: readonly PastTurn[],
  ): Caveats {
    const before = inSession(attachments) ? turns.slice(0, index) : [];
    const inConversation = (past: PastTurn) => inSession(past.attachments);
    const earlier = before
      .slice(readFrom)
      .filter(inConversation)
      .flatMap((past) => past.attachments);
    return {
      emojiOnly: knowsOnlyEmoji(model) && [...earlier, ...attachments].some(isOfTheWorld),
      earlier,
      dropped: before.slice(0, readFrom).filter(inConversation).length,
    };
  }

  async #add(past: PastTurn, view: TurnView, conversation: number): Promise<void> {
    // A turn that was stopped before anything was said is no part of the conversation.
    if ((past.answer === "" && past.stopped) || conversation !== this.#number) return;
    this.#turns.push({ past, view });
    const fault = await keepTurn(this.#turns.length - 1, past);
    if (fault)
      showWarning(this.#composer.alert, fault === "full" ? words.notKept : words.notKeptPrivate);
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
    const composer = this.#composer;
    composer.editing = index !== undefined;
    const past = index === undefined ? undefined : this.#turns[index]?.past;
    composer.text = past?.text ?? "";
    composer.attached = past && inSession(past.attachments) ? past.attachments : [];
    this.#update();
    composer.focus();
  }

  async #startOver(): Promise<void> {
    this.#number++;
    this.#answering?.abort();
    this.#endSession();
    this.#turns = [];
    turns.replaceChildren();
    this.#composer.forgetSample();
    this.#edit(undefined);
    hideAlert(this.#composer.alert);
    clearTokenMap();
    showContext(undefined);
    this.#update();
    await keepOnly(0);
  }

  /** A turn that is over, of an earlier visit or in another language. */
  #view(pasts: readonly PastTurn[], index: number): TurnView {
    const past = pasts[index]!;
    const view = this.#newView(past, index, past.tokenMaps);
    view.say(past.answer);
    view.caveats = this.#caveats(past, index, pasts);
    if (past.stopped) view.status = words.stopped;
    else if (past.usage) view.usage = past.usage;
    view.end();
    return view;
  }

  #newView(
    {
      text,
      attachments,
      model,
      modelLabel = model,
    }: Pick<PastTurn, "text" | "attachments" | "model" | "modelLabel">,
    index: number,
    tokenMaps: readonly TokenMap[],
  ): TurnView {
    return new TurnView(text, attachments, modelLabel, {
      show: (one) => {
        showSide();
        void this.#drawTokenMap(one, tokenMaps[attachments.indexOf(one)]);
      },
      retry: () => this.#retry(index),
      edit: () => this.#edit(index),
      showPhotoModels: () => this.#model.showPhotoModels(),
    });
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

  // The camera.

  async #openCamera(deviceId?: string): Promise<void> {
    this.#closeCamera();
    const { alert } = this.#composer;
    hideAlert(alert);
    try {
      this.#camera = await Camera.open(deviceId, () => void this.#drawLive());
      if (this.#model.univi) this.begin(this.#model.univi);
      cameraOpen.hidden = true;
      announce(words.cameraOn);
      this.#composer.focus();
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
    showAlert(this.#composer.alert, error, this.#remedy(error));
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
    this.#composer.busy = this.#answering !== undefined;
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
