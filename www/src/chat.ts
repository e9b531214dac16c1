/** The conversation: attachments and questions, the answers, and asking anew. */
import { type AskProgress, type TokenMap, type Session, type Univi, UniviError } from "univi";

import { hideAlert, showAlert, showWarning } from "./alert.js";
import { type Attachment, isOfTheWorld, partsOf } from "./attachment.js";
import type { Camera, CameraActions, Source } from "./camera/camera.js";
import { Composer } from "./composer.js";
import { ConversationList } from "./conversations.js";
import { showContext, translateContext } from "./context-meter.js";
import { announce, button, byId, save } from "./dom.js";
import { isCovered } from "./drawer.js";
import { size } from "./format.js";
import {
  choose,
  type Conversation,
  forgetDeleted,
  hold,
  keepOnly,
  keepTurn,
  keptConversations,
  keptTurns,
  newId,
  openHere,
  type PastTurn,
  setOpenHere,
  withVersion,
} from "./history.js";
import type { MetricsPanel } from "./metrics-panel.js";
import type { ModelPanel } from "./model-panel.js";
import { knowsOnlyEmoji } from "./models.js";
import { hideNotice, offerUndo } from "./notice.js";
import { followEnd, toEnd } from "./scroll.js";
import { askOptions, sessionOptions } from "./settings.js";
import { CONVERSATIONS, closeSheet, openSheet, SAW } from "./sheet.js";
import { type Caveats, TurnView } from "./turn.js";
import { words } from "./words/index.js";

/** What draws token maps, which comes once there is one to draw. */
const tokenMapPanel = () => import("./token-map-panel.js");

/** What the camera saw is drawn anew at most so often. */
const LIVE_INTERVAL_MS = 3000;

const turns = byId("turns", HTMLOListElement);
const empty = byId("chat-empty", HTMLDivElement);
const cameraOpen = byId("camera-open", HTMLButtonElement);
const screenOpen = byId("screen-open", HTMLButtonElement);
const begin = byId("new-conversation", HTMLButtonElement);
const exports = {
  markdown: byId("export-markdown", HTMLButtonElement),
  json: byId("export-json", HTMLButtonElement),
};

const importing = byId("import", HTMLInputElement);

/** A title has at most so many characters. */
const TITLE_LENGTH = 80;

/** A turn that is over, and its view. */
interface Turn {
  readonly past: PastTurn;
  readonly view: TurnView;
}

/** A question that is put once more. */
interface Again {
  /** The same one would give the same answer. */
  readonly seed: number;
  readonly past: PastTurn;
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
  readonly #list = new ConversationList({
    open: (conversation) => void this.#open(conversation),
    renamed: (conversation) => {
      if (conversation.id === this.#opened.id) this.#opened = conversation;
    },
    deleted: (id) => {
      if (id === this.#opened.id) this.#leave(newConversation());
    },
  });
  /** The one that is open. An answer belongs to the one that it was asked in. */
  #opened = newConversation();
  /** Lets go of the open one, for other tabs. */
  #letGo: (() => void) | undefined;
  #camera: Camera | undefined;
  #drawnLiveAt = 0;

  constructor(model: ModelPanel, metrics: MetricsPanel) {
    this.#model = model;
    this.#metrics = metrics;
    this.#composer = new Composer({
      submit: () => void this.#submit(),
      stop: () => this.#answering?.abort(),
      leaveEdit: () => this.#edit(undefined),
      univi: () => this.#model.univi,
      load: () => this.#model.ready(),
    });
    addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || isCovered()) return;
      if (this.#answering) this.#answering.abort();
      else if (!this.#camera?.stopCaptions()) this.#edit(undefined);
    });
    begin.addEventListener("click", () => this.#begin());
    exports.json.addEventListener("click", () => void this.#export("json"));
    exports.markdown.addEventListener("click", () => void this.#export("markdown"));
    importing.addEventListener("change", () => {
      const [file] = importing.files ?? [];
      if (file) void this.#import(file);
      importing.value = ""; // The same one may be chosen again.
    });
    cameraOpen.addEventListener("click", () => void this.#openCamera({ kind: "camera" }));
    screenOpen.addEventListener("click", () => void this.#openCamera({ kind: "screen" }));
    screenOpen.hidden = !navigator.mediaDevices?.getDisplayMedia;
    followEnd(byId("main", HTMLElement));
    this.#update();
  }

  /** What is asked next. */
  get composer(): Composer {
    return this.#composer;
  }

  /** Takes up the conversation of the last visit, unless another tab has it. */
  async restore(): Promise<void> {
    await forgetDeleted();
    const kept = await keptConversations();
    const own = openHere();
    const last = own === undefined ? kept[0] : kept.find(({ id }) => id === own);
    const letGo = last && (await hold(last.id));
    if (!last || !letGo || this.#turns.length > 0) {
      letGo?.();
      this.#list.current = this.#opened.id;
      setOpenHere(this.#opened.id);
      return;
    }
    await this.#show(last, letGo);
    announce(words.restored(this.#turns.length));
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
    this.#camera?.translate();
    translateContext();
    void this.#list.draw();
  }

  /** A model was loaded: it watches what the camera sees. */
  begin(univi: Univi): void {
    this.#camera?.watch(univi);
    this.#composer.modelChanged();
    this.#update();
  }

  /** The model goes; the conversation stays. */
  end(): void {
    this.#answering?.abort();
    this.#camera?.forget();
    this.#composer.modelChanged();
    this.#session = undefined;
    showContext(undefined);
    this.#update();
  }

  /** Settings have changed. */
  settingsChanged(): void {
    this.#camera?.settingsChanged();
    this.#composer.modelChanged();
  }

  /** Takes files that were dropped: conversations are imported, the rest is attached. */
  take(files: Iterable<File>): void {
    const conversation = [...files].find(({ name }) => /\.json$/i.test(name));
    if (conversation) void this.#import(conversation);
    else this.#composer.show(files);
  }

  async #export(format: keyof typeof exports): Promise<void> {
    const [{ asJson, asMarkdown, MOST_BYTES, TooLarge }, { transferWords }] = await Promise.all([
      import("./export.js"),
      import("./words/transfer.js"),
    ]);
    const { title } = this.#opened;
    try {
      if (format === "json") save("conversation.json", await asJson(title, this.#pasts));
      else save("conversation.md", await asMarkdown(title, this.#pasts));
    } catch (error) {
      closeSheet(CONVERSATIONS);
      if (!(error instanceof TooLarge)) showAlert(this.#composer.alert, error);
      else showWarning(this.#composer.alert, transferWords().tooLarge(size(MOST_BYTES)));
    }
  }

  /** Opens a conversation from a file, beside those that there are. */
  async #import(file: File): Promise<void> {
    const { alert } = this.#composer;
    hideAlert(alert);
    closeSheet(CONVERSATIONS);
    const [{ NoConversation, readConversation }, { transferWords }] = await Promise.all([
      import("./import.js"),
      import("./words/transfer.js"),
    ]);
    try {
      const { title, turns } = await readConversation(file);
      const conversation = { id: newId(), title: titleOf(title), usedAt: new Date() };
      let fault: Awaited<ReturnType<typeof keepTurn>>;
      for (const [index, turn] of turns.entries())
        fault ??= await keepTurn(conversation, index, turn);
      await this.#show(conversation, (await hold(conversation.id)) ?? (() => {}), turns);
      await this.#list.changed();
      announce(transferWords().imported(title));
      if (fault) showWarning(alert, fault === "full" ? words.notKept : words.notKeptPrivate);
    } catch (error) {
      if (!(error instanceof NoConversation)) showAlert(alert, error);
      else showWarning(alert, transferWords().noConversation(file.name, error.message));
    }
  }

  // Asking.

  async #submit(): Promise<void> {
    const composer = this.#composer;
    const text = composer.text.trim();
    if (this.#answering || text === "" || !composer.valid()) return;
    if (!(await composer.complete())) return;
    const { id } = this.#opened;
    // Whoever asks wants the model, too.
    if (!(await this.#model.ready()) || this.#answering) return;
    if (id !== this.#opened.id) return; // Another conversation was begun, or opened, meanwhile.
    const from = this.#editing ?? this.#turns.length;
    await this.#ask(text, composer.attached, from);
  }

  /** Asks in place of the turns from `from` on. */
  async #ask(
    text: string,
    attached: readonly Attachment[],
    from: number,
    again?: Again,
  ): Promise<void> {
    const abort = (this.#answering = new AbortController());
    const { alert } = this.#composer;
    hideAlert(alert);
    try {
      await this.#turn(text, attached, from, again, abort.signal);
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
    again: Again | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const conversation = this.#opened.id;
    const univi = this.#model.univi!;
    // What is attached comes before what goes on.
    const live = attached.length === 0 ? this.#camera?.watch(univi) : undefined;
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
      const usage = await this.#answer(view, past, signal, again?.seed, live !== undefined);
      const over = { ...past, answer: view.text, usage, stopped: false, readFrom: this.#readFrom };
      view.usage = usage;
      view.caveats = this.#caveats(over, from, this.#pasts);
      announce(view.text === "" ? words.saidNothing : words.answered(view.text));
      const turn: PastTurn = again ? withVersion(again.past, over) : over;
      if (turn.versions) view.showVersions(turn.chosen ?? 0, turn.versions.length);
      await this.#add(turn, view, conversation);
      const context = this.#session?.session.contextUsage;
      showContext(context);
      void this.#metrics.add(this.#model.univi!, usage, context);
    } catch (error) {
      if (!signal.aborted) {
        view.element.remove();
        if (again) await this.#putBack(again.past, conversation);
        else this.#composer.text ||= text;
        if (!again && this.#composer.attached.length === 0 && !live)
          this.#composer.attached = attachments;
        showAlert(alert, error, this.#remedy(error));
      } else {
        view.status = words.stopped;
        announce(words.stopped);
        const over = { ...past, answer: view.text, stopped: true };
        if (again && over.answer === "") {
          view.element.remove();
          await this.#putBack(again.past, conversation);
        } else {
          await this.#add(again ? withVersion(again.past, over) : over, view, conversation);
        }
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
      const watching = live ? this.#camera?.watch(univi) : undefined;
      const answer = (watching ?? this.#sessionOf(univi)).ask(
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
  #sessionOf(univi: Univi): Session {
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
    await keepOnly(this.#opened.id, from);
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

  async #add(past: PastTurn, view: TurnView, conversation: string): Promise<void> {
    // A turn that was stopped before anything was said is no part of the conversation.
    if ((past.answer === "" && past.stopped) || conversation !== this.#opened.id) return;
    this.#turns.push({ past, view });
    const { id, title } = this.#opened;
    this.#letGo ??= await hold(id);
    this.#opened = { id, title: title || titleOf(past.text), usedAt: new Date() };
    const fault = await keepTurn(this.#opened, this.#turns.length - 1, past);
    if (fault)
      showWarning(this.#composer.alert, fault === "full" ? words.notKept : words.notKeptPrivate);
    void this.#list.changed();
  }

  #retry(index: number): void {
    const past = this.#turns[index]?.past;
    if (this.#answering || !past) return;
    const live = past.attachments[0]?.kind === "live";
    // The same seed would give the same answer.
    const seed = Math.floor(Math.random() * 2 ** 32);
    void this.#model.ready().then((univi) => {
      if (univi && !this.#answering)
        return this.#ask(past.text, live ? [] : past.attachments, index, { seed, past });
      return undefined;
    });
  }

  /** Puts back a turn whose question could not be answered once more. */
  async #putBack(past: PastTurn, conversation: string): Promise<void> {
    if (conversation !== this.#opened.id) return;
    const view = this.#view([...this.#pasts, past], this.#turns.length);
    turns.append(view.element);
    await this.#add(past, view, conversation);
    this.#endSession(); // It has forgotten this turn: a new one reads it.
  }

  /** Takes another one of the answers to the last question. */
  async #choose(index: number, version: number): Promise<void> {
    const turn = this.#turns[index];
    if (this.#answering || !turn || index !== this.#turns.length - 1) return;
    const past = choose(turn.past, version);
    const view = this.#view([...this.#pasts.slice(0, index), past], index);
    turn.view.element.replaceWith(view.element);
    this.#turns[index] = { past, view };
    this.#endSession(); // It knows the other one.
    announce(words.answered(past.answer));
    await keepTurn(this.#opened, index, past);
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
    // Copies: what becomes of them here is not what was asked then.
    composer.attached =
      past && inSession(past.attachments) ? past.attachments.map((one) => ({ ...one })) : [];
    this.#update();
    composer.focus();
  }

  /** Begins another conversation; the one before stays in the list. */
  #begin(): void {
    const before = this.#opened;
    const said = this.#turns.length > 0;
    this.#leave(newConversation());
    closeSheet(CONVERSATIONS);
    this.#composer.focus();
    if (said) offerUndo(words.begun, () => void this.#open(before));
  }

  /** Opens a conversation of the list, unless another tab has it. */
  async #open(conversation: Conversation): Promise<void> {
    if (conversation.id === this.#opened.id) return;
    const letGo = await hold(conversation.id);
    if (!letGo) {
      showWarning(this.#composer.alert, words.openElsewhere(conversation.title));
      return;
    }
    await this.#show(conversation, letGo);
    this.#composer.focus();
  }

  /** Shows a conversation as it is kept. */
  async #show(
    conversation: Conversation,
    letGo: () => void,
    turnsOfIt?: readonly PastTurn[],
  ): Promise<void> {
    const kept = turnsOfIt ?? (await keptTurns(conversation.id));
    this.#leave(conversation);
    this.#letGo = letGo;
    this.#turns = kept.map((past, index) => ({ past, view: this.#view(kept, index) }));
    turns.replaceChildren(...this.#turns.map(({ view }) => view.element));
    this.#update();
    toEnd();
    const last = kept.findLast(({ attachments, tokenMaps }) => attachments[0] && tokenMaps[0]);
    if (last) await this.#drawTokenMap(last.attachments[0]!, last.tokenMaps[0]);
  }

  /** Leaves the conversation that is open for another one, of which nothing is shown yet. */
  #leave(next: Conversation): void {
    this.#letGo?.();
    this.#letGo = undefined;
    this.#opened = next;
    this.#list.current = next.id;
    setOpenHere(next.id);
    this.#answering?.abort();
    this.#endSession();
    this.#turns = [];
    turns.replaceChildren();
    this.#composer.forgetSample();
    this.#edit(undefined);
    hideAlert(this.#composer.alert);
    hideNotice();
    void tokenMapPanel().then(({ clearTokenMap }) => clearTokenMap());
    showContext(undefined);
    this.#update();
  }

  /** Puts a question by itself, in a conversation of its own. */
  async #askAlone({ text, attachments }: PastTurn): Promise<void> {
    if (this.#answering || !(await this.#model.ready()) || this.#answering) return;
    this.#begin();
    await this.#ask(text, attachments, 0);
  }

  /** A turn that is over, of an earlier visit or in another language. */
  #view(pasts: readonly PastTurn[], index: number): TurnView {
    const past = pasts[index]!;
    const view = this.#newView(past, index, past.tokenMaps);
    view.say(past.answer);
    view.caveats = this.#caveats(past, index, pasts);
    if (past.stopped) view.status = words.stopped;
    else if (past.usage) view.usage = past.usage;
    if (past.versions) view.showVersions(past.chosen ?? 0, past.versions.length);
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
    const clip = attachments.find(({ kind }) => kind === "clip");
    const show = (one: Attachment, atSeconds?: number) => {
      openSheet(SAW);
      return this.#drawTokenMap(one, tokenMaps[attachments.indexOf(one)], undefined, atSeconds);
    };
    return new TurnView(text, attachments, modelLabel, {
      show: (one) => void show(one),
      retry: () => this.#retry(index),
      edit: () => this.#edit(index),
      link: async () => (await import("./link.js")).linkTo(text, this.#model.address),
      choose: (version) => void this.#choose(index, version),
      seek: clip && ((seconds) => void show(clip, seconds)),
      showPhotoModels: () => this.#model.showPhotoModels(),
      askAlone: () => {
        const past = this.#turns[index]?.past;
        if (past) void this.#askAlone(past);
      },
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
    atSeconds?: number,
  ): Promise<void> {
    if (!tokenMap) return;
    for (const turn of this.#turns) turn.view.mark(attachment);
    view?.mark(attachment);
    const { drawTokenMap } = await tokenMapPanel();
    const merger = { ready: () => this.#model.ready() };
    await drawTokenMap(attachment, tokenMap, merger, atSeconds).catch(() => {}); // A picture that can't be drawn was said to be none.
  }

  // The camera.

  readonly #cameraActions: CameraActions = {
    proposal: () => this.#composer.proposal,
    ready: () => this.#model.ready(),
    caveat: ({ info: { name } }) => (knowsOnlyEmoji(name) ? words.knowsEmoji(name) : undefined),
    offerUndo,
    frame: () => void this.#drawLive(),
    choose: (source) => void this.#openCamera(source),
    close: () => this.#closeCamera(),
    ended: (why) => {
      this.#closeCamera();
      showWarning(this.#composer.alert, why);
    },
    failed: (error) => showAlert(this.#composer.alert, error, this.#remedy(error)),
  };

  async #openCamera(source: Source): Promise<void> {
    this.#closeCamera();
    const { alert } = this.#composer;
    hideAlert(alert);
    cameraOpen.disabled = screenOpen.disabled = true;
    try {
      const { Camera, CameraRefused } = await import("./camera/camera.js");
      try {
        this.#camera = await Camera.open(source, this.#cameraActions);
      } catch (error) {
        if (!(error instanceof CameraRefused)) throw error;
        showWarning(alert, error.message);
        return;
      }
      if (this.#model.univi) this.begin(this.#model.univi);
      this.#composer.focus();
    } catch (error) {
      showAlert(alert, error);
    } finally {
      this.#offerSources(this.#camera?.source);
    }
  }

  #closeCamera(): void {
    this.#camera?.close();
    this.#camera = undefined;
    this.#offerSources();
  }

  /** Offers what can be watched, but what is. */
  #offerSources(watched?: Source): void {
    cameraOpen.disabled = watched?.kind === "camera";
    screenOpen.disabled = watched?.kind === "screen";
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
    const before = [...camera.stills];
    const tokenMap = await live.tokenMap().catch(() => undefined); // It was turned off meanwhile.
    // Frames may have left the window since, and come.
    if (tokenMap && camera === this.#camera && !this.#answering)
      await (await tokenMapPanel()).drawLive(new Map([...before, ...camera.stills]), tokenMap);
  }

  #remedy(error: unknown): HTMLButtonElement | undefined {
    if (!(error instanceof UniviError)) return undefined;
    if (error.code === "context-overflow")
      return button("button small", words.newConversation, () => this.#begin());
    if (error.code === "device-lost" || error.code === "internal")
      return button("button small", words.loadAgain, () => void this.#model.load());
    return undefined;
  }

  #update(): void {
    const answering = this.#answering !== undefined;
    this.#composer.busy = answering;
    if (this.#camera) this.#camera.asking = answering;
    const none = turns.childElementCount === 0;
    for (const exporting of Object.values(exports)) exporting.disabled = none;
    empty.hidden = !none;
  }
}

function newConversation(): Conversation {
  return { id: newId(), title: "", usedAt: new Date() };
}

/** What a conversation is called that begins with this question. */
function titleOf(question: string): string {
  const [line = ""] = question.split("\n");
  return line.length > TITLE_LENGTH ? `${line.slice(0, TITLE_LENGTH - 1)}…` : line;
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
