/** `<univi-chat>`: a conversation about pictures and clips. */
import { UniviError, type UniviErrorCode } from "../error.js";
import type { ChatMessage } from "../messages.js";
import type { Session } from "../session.js";
import type { LoadProgress } from "../types.js";
import { Univi, type UniviOptions } from "../univi.js";
import { BaseElement, shadowOf } from "./base.js";
import { type ChatWords, wordsOf } from "./chat-words.js";

const STYLE = `
  :host { display: flex; flex-direction: column; gap: 0.75em; min-height: 16em; font: inherit; color: inherit; }
  [role="log"] { flex: 1 1 auto; overflow-y: auto; display: flex; flex-direction: column; gap: 0.75em; }
  .question { align-self: flex-end; max-width: 85%; padding: 0.5em 0.75em; border: 1px solid transparent; border-radius: 0.75em; background: color-mix(in srgb, currentColor 10%, transparent); }
  .answer:not(.drawn), .question { white-space: pre-wrap; }
  .drawn > :first-child { margin-top: 0; }
  .drawn > :last-child { margin-bottom: 0; }
  .drawn pre, .drawn table { display: block; overflow-x: auto; }
  .drawn th, .drawn td { padding: 0.25em 0.5em; border: 1px solid color-mix(in srgb, currentColor 25%, transparent); text-align: start; }
  .answer, .question, .error, textarea { overflow-wrap: anywhere; unicode-bidi: plaintext; }
  .error { color: var(--univi-error, color-mix(in srgb, #d00 55%, currentColor)); }
  .files { display: flex; flex-wrap: wrap; gap: 0.5em; margin: 0; padding: 0; list-style: none; }
  .files:empty, [role="status"]:empty { display: none; }
  img, video { display: block; max-width: 8em; max-height: 8em; border-radius: 0.5em; }
  .question .files { margin-bottom: 0.5em; }
  .form > .files { max-height: 14em; overflow-y: auto; }
  .form li { position: relative; }
  .form li button { position: absolute; inset-block-start: 0.25em; inset-inline-end: 0.25em; width: 1.75em; min-height: 1.75em; padding: 0; border-radius: 50%; line-height: 1; background: Canvas; color: CanvasText; }
  form { display: flex; flex-direction: column; gap: 0.5em; padding: 0.5em; border: 1px solid color-mix(in srgb, currentColor 35%, transparent); border-radius: 0.75em; }
  form.over { outline: 3px dashed Highlight; }
  textarea { font: inherit; color: inherit; background: none; border: 0; resize: none; field-sizing: content; max-height: 10em; padding: 0.5em 0.25em; outline: 0; }
  form:focus-within { outline: 2px solid Highlight; outline-offset: 1px; }
  .row { display: flex; gap: 0.5em; align-items: end; }
  .row textarea { flex: 1 1 auto; min-width: 0; }
  button { font: inherit; min-height: 2.25em; padding: 0 0.75em; border: 1px solid color-mix(in srgb, currentColor 35%, transparent); border-radius: 0.5em; background: none; color: inherit; cursor: pointer; }
  button:focus-visible { outline: 3px solid Highlight; outline-offset: 1px; }
  .clear { align-self: flex-start; }
  [hidden] { display: none; }
`;

/** What draws Markdown, which comes once there is something to draw. */
let toNodes: typeof import("../markdown.js").markdown | undefined;

/** Fetches it. Where that fails, answers are read as they were written. */
const readMarkdown = () =>
  import("../markdown.js").then(
    ({ markdown }) => void (toNodes = markdown),
    () => undefined,
  );

/** What a person asked, and what came of it: the detail of the event `answer`. */
export interface ChatAnswer {
  readonly question: string;
  /** The pictures and clips that came with it. */
  readonly files: readonly File[];
  readonly text: string;
}

/** The events of `<univi-chat>`, beside those of every element. */
export interface ChatEventMap {
  /** The model is loading. */
  progress: CustomEvent<LoadProgress>;
  /** An answer is complete. */
  answer: CustomEvent<ChatAnswer>;
  /** Something went wrong, which the element says as well. */
  failure: CustomEvent<UniviError>;
}

/**
 * A conversation about pictures and clips: `<univi-chat model="/models/univi-nano/manifest.json">`.
 * Files are added by the button, by dropping or by pasting them.
 *
 * Attributes: `model` is what `Univi.create` takes as an address; `device` likewise; `placeholder`
 * stands in the field; `lang` chooses English, Japanese or Chinese, as that of an element around
 * it does. The model is fetched with the first question, or by {@link UniviChatElement.load}.
 * `remote` is the address of a server that answers instead, and `model` what it calls its own.
 *
 * Events: `progress`, `answer` and `failure`, see {@link ChatEventMap}. Parts to style: `log`,
 * `question`, `answer`, `error`, `status`, `form`, `field`, `attach`, `send`, `clear`.
 *
 * @example
 * ```html
 * <script type="module">import "univi/chat";</script>
 * <univi-chat model="/models/univi-nano/manifest.json" placeholder="What is on it?"></univi-chat>
 * ```
 */
export class UniviChatElement extends BaseElement {
  declare addEventListener: (<K extends keyof ChatEventMap>(
    type: K,
    listener: (this: UniviChatElement, event: ChatEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ) => void) &
    HTMLElement["addEventListener"];

  static readonly observedAttributes = ["model", "remote", "device", "placeholder", "lang"];

  readonly #log = document.createElement("div");
  readonly #status = document.createElement("div");
  readonly #form = document.createElement("form");
  readonly #files = document.createElement("ul");
  readonly #field = document.createElement("textarea");
  readonly #picker = document.createElement("input");
  readonly #attach = button("attach");
  readonly #send = button("send");
  readonly #clear = button("clear");

  #univi: Promise<Univi> | undefined;
  #loading: AbortController | undefined;
  #given: Univi | undefined;
  #apiKey: string | undefined;
  #session: Session | undefined;
  #answering: AbortController | undefined;
  #attached: File[] = [];
  #words: ChatWords | undefined;
  /** What was said, for a model that takes over. */
  #messages: ChatMessage[] = [];
  /** The files of the conversation, and of the question that is being written. */
  readonly #shown = { said: [] as Shown[], written: [] as Shown[] };

  constructor() {
    super();
    this.#log.setAttribute("role", "log");
    this.#log.tabIndex = 0;
    this.#log.part.add("log");
    this.#status.setAttribute("role", "status");
    this.#status.part.add("status");
    this.#form.part.add("form");
    this.#form.className = "form";
    this.#files.className = "files";
    this.#field.part.add("field");
    this.#field.rows = 1;
    this.#send.type = "submit";
    Object.assign(this.#picker, { type: "file", multiple: true, hidden: true });
    this.#picker.accept = "image/*,video/*";
    const row = document.createElement("div");
    row.className = "row";
    row.append(this.#attach, this.#field, this.#send);
    this.#form.append(this.#files, row, this.#picker);
    shadowOf(this, STYLE).append(this.#log, this.#status, this.#form, this.#clear);

    this.#attach.addEventListener("click", () => this.#picker.click());
    this.#picker.addEventListener("change", () => {
      this.#add(this.#picker.files);
      this.#picker.value = ""; // The same file may be chosen again.
    });
    this.#clear.addEventListener("click", () => {
      this.clear();
      this.#field.focus();
    });
    // The second click of two would stop what the first one has asked.
    this.#send.addEventListener("click", (event) => {
      if (event.detail > 1) event.preventDefault();
    });
    this.#field.addEventListener("keydown", (event) => {
      // Enter that ends a word of an input method is not meant for us; Safari says so by 229.
      const composes = event.isComposing || event.keyCode === 229;
      if (event.key !== "Enter" || event.shiftKey || composes) return;
      event.preventDefault();
      this.#form.requestSubmit();
    });
    this.#field.addEventListener("paste", (event) => {
      // What is copied of a table or a text brings a picture of itself along.
      const { files, types = [] } = event.clipboardData ?? {};
      if (!types.includes("text/plain") && this.#add(files)) event.preventDefault();
    });
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      // Enter while an answer is written is patience: only the button stops it.
      if (this.#answering) {
        if (!event.submitter) return;
        this.#loading?.abort(); // What has come is kept where files are.
        return this.#answering.abort();
      }
      const [question, files] = [this.#field.value.trim(), this.#attached];
      if (!question && files.length === 0) return this.#field.focus();
      [this.#field.value, this.#attached] = ["", []];
      this.#drawFiles();
      // What goes wrong is said, and told by an event; nobody has to write the question again.
      this.ask(question, files).catch((error: Error) => {
        if (error.name === "AbortError" || this.#field.value || this.#attached.length > 0) return;
        [this.#field.value, this.#attached] = [question, files];
        this.#drawFiles();
      });
    });
    for (const type of ["dragenter", "dragover"] as const)
      this.addEventListener(type, (event) => {
        if (!event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        this.#form.classList.add("over");
      });
    this.addEventListener("dragleave", () => this.#form.classList.remove("over"));
    this.addEventListener("drop", (event) => {
      this.#form.classList.remove("over");
      if (this.#add(event.dataTransfer?.files)) event.preventDefault();
    });
  }

  /** @internal */
  connectedCallback(): void {
    // What was set before this element was defined hides its properties.
    for (const name of ["univi", "words", "apiKey"] as const) {
      const own = Object.getOwnPropertyDescriptor(this, name);
      if (!own) continue;
      delete (this as Partial<UniviChatElement>)[name];
      Object.assign(this, { [name]: own.value });
    }
    for (const one of [...this.#shown.said, ...this.#shown.written]) show(one);
    this.#draw();
  }

  /** @internal */
  disconnectedCallback(): void {
    // Moved within the page, it is there again at once.
    queueMicrotask(() => {
      if (this.isConnected) return;
      this.#release();
      for (const one of [...this.#shown.said, ...this.#shown.written]) hide(one);
    });
  }

  /** @internal */
  attributeChangedCallback(name: string, before: string | null, now: string | null): void {
    if (before !== now && ["model", "remote", "device"].includes(name)) this.#release();
    this.#draw();
  }

  /** What it says: in the language of `lang` unless it is set. */
  get words(): ChatWords {
    const language = this.closest("[lang]")?.getAttribute("lang") ?? "";
    return this.#words ?? wordsOf(language);
  }
  set words(words: ChatWords) {
    this.#words = words;
    this.#draw();
  }

  /** The model that it asks, where the page has loaded one; the page disposes of it. */
  get univi(): Univi | undefined {
    return this.#given;
  }
  set univi(univi: Univi | undefined) {
    this.#release();
    this.#given = univi;
  }

  /** The key of the server that `remote` names. */
  get apiKey(): string | undefined {
    return this.#apiKey;
  }
  set apiKey(key: string | undefined) {
    this.#release();
    this.#apiKey = key;
  }

  /**
   * Loads the model, unless it is there.
   *
   * @throws UniviError as `Univi.create`; `bad-request` without a model.
   */
  async load(): Promise<Univi> {
    if (this.#given) return this.#given;
    const loading = (this.#univi ??= this.#create());
    try {
      return await loading;
    } catch (error) {
      if (this.#univi === loading) this.#univi = undefined; // The next question tries again.
      throw error;
    } finally {
      if (!this.#answering) this.#status.textContent = "";
    }
  }

  /**
   * Asks, as if somebody had typed it, and returns the whole answer. Pictures and clips without a
   * question are asked to be described.
   *
   * @throws UniviError as `session.ask`, which the element says as well; `bad-request` while
   * another answer is on its way.
   */
  async ask(written: string, files: Iterable<File> = []): Promise<string> {
    const shown = [...files];
    if (typeof written !== "string" || !shown.every((file) => file instanceof Blob))
      throw new UniviError("bad-request", "ask takes a string and a list of files");
    const asksNothing = written.trim() === "" && shown.length > 0;
    const isClip = ({ type }: File) => type.startsWith("video/");
    const question = asksNothing ? this.words.describe(shown.some(isClip)) : written;
    if (this.#answering)
      throw new UniviError("bad-request", "another question is being answered; wait for it");
    const stop = (this.#answering = new AbortController());
    this.#say("question", question, shown);
    const answer = this.#say("answer", "");
    // Read out once it is whole.
    answer.setAttribute("aria-busy", "true");
    const drawer = toNodes ? undefined : readMarkdown();
    this.#draw();
    const status = (text: string) => {
      if (this.#answering === stop) this.#status.textContent = text;
    };
    const over = () => {
      if (this.#answering !== stop) return;
      status("");
      this.#answering = undefined;
      this.#draw();
    };
    // A conversation that was cleared has forgotten it.
    const remember = (text: string) => {
      if (answer.parentNode)
        this.#messages.push(
          { role: "user", content: [...shown, { text: question }] },
          { role: "assistant", content: text },
        );
    };
    let text = "";
    let drawing = 0;
    const draw = () => {
      drawing = 0;
      answer.replaceChildren(...(toNodes?.(text) ?? [text]));
      answer.classList.toggle("drawn", toNodes !== undefined);
      this.#log.scrollTop = this.#log.scrollHeight;
    };
    const drawWhole = async () => {
      await drawer;
      cancelAnimationFrame(drawing);
      if (text) draw();
      answer.removeAttribute("aria-busy");
    };
    try {
      const univi = await unlessStopped(stop.signal, this.load());
      status(this.words.thinking);
      this.#session ??= univi.session({ messages: this.#messages });
      const parts = [...shown, { text: question }]; // A name of a file is a question, too.
      for await (const piece of this.#session.ask(parts, { signal: stop.signal })) {
        status("");
        text += piece;
        drawing ||= requestAnimationFrame(draw);
      }
      await drawWhole();
    } catch (error) {
      await drawWhole();
      if (text) remember(text);
      else answer.remove();
      over();
      if (!stop.signal.aborted) {
        const said = error instanceof Error ? error.message : String(error);
        this.#say("error", said).setAttribute("role", "alert");
        // A model that can't go on is loaded anew for the next question.
        if (error instanceof UniviError && GONE.includes(error.code)) this.#release();
        this.#tell("failure", error);
      }
      throw error;
    }
    if (!text) answer.textContent = this.words.empty;
    remember(text);
    over();
    this.#tell("answer", { question, files: shown, text });
    return text;
  }

  /** Ends the conversation, and begins another one with the same model. */
  clear(): void {
    this.#answering?.abort();
    this.#answering = undefined;
    this.#session?.dispose();
    this.#session = undefined;
    [this.#messages, this.#attached] = [[], []];
    this.#status.textContent = "";
    this.#log.replaceChildren();
    this.#drawFiles();
    this.#shown.said.splice(0).forEach(hide);
    this.#draw();
  }

  async #create(): Promise<Univi> {
    const [model, remote] = [this.getAttribute("model"), this.getAttribute("remote")];
    const { signal } = (this.#loading = new AbortController());
    const loading = this.#loading;
    try {
      if (remote) {
        const { apiKey } = this;
        return await Univi.create({
          remote: addressOf(remote),
          ...(model ? { model } : {}),
          ...(apiKey === undefined ? {} : { apiKey }),
          signal,
        });
      }
      if (!model)
        throw new UniviError(
          "bad-request",
          'univi-chat has no model; write <univi-chat model="..">',
        );
      return await Univi.create({
        model: model.startsWith("hf:") ? model : addressOf(model),
        device: (this.getAttribute("device") || "auto") as NonNullable<UniviOptions["device"]>,
        signal,
        onProgress: (progress) => {
          if (signal.aborted) return;
          const [loaded, total] = [megabytes(progress.loaded), megabytes(progress.total)];
          this.#status.textContent = this.words.loading(progress, total && loaded, total);
          this.#tell("progress", progress);
        },
      });
    } finally {
      if (this.#loading === loading) this.#loading = undefined;
    }
  }

  /** Gives back what is its own; what was said is told to the next model. */
  #release(): void {
    this.#answering?.abort();
    this.#loading?.abort();
    this.#session?.dispose();
    this.#session = undefined;
    this.#univi?.then(
      (univi) => univi.dispose(),
      () => undefined,
    );
    this.#univi = undefined;
  }

  #tell(name: keyof ChatEventMap, detail: unknown): void {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #say(kind: "question" | "answer" | "error", text: string, files: readonly File[] = []) {
    const said = document.createElement("div");
    said.className = kind;
    said.part.add(kind);
    if (files.length > 0) {
      const list = document.createElement("ul");
      list.className = "files";
      list.append(...files.map((file) => itemOf(file, this.#shown.said)));
      said.append(list);
    }
    said.append(text);
    this.#log.append(said);
    this.#log.scrollTop = this.#log.scrollHeight;
    return said;
  }

  #add(files: FileList | null | undefined): boolean {
    if (!files || files.length === 0) return false;
    this.#attached.push(...files);
    this.#drawFiles();
    this.#field.focus();
    return true;
  }

  #drawFiles(): void {
    const before = this.#shown.written.splice(0);
    const items = this.#attached.map((file, index) => {
      const item = itemOf(file, this.#shown.written);
      const remove = button("remove");
      remove.textContent = "×";
      remove.setAttribute("aria-label", this.words.remove(file.name));
      remove.addEventListener("click", () => {
        this.#attached.splice(index, 1);
        this.#drawFiles();
        this.#field.focus();
      });
      item.append(remove);
      return item;
    });
    this.#files.replaceChildren(...items);
    before.forEach(hide);
  }

  #draw(): void {
    const words = this.words;
    this.#log.setAttribute("aria-label", words.conversation);
    this.#field.placeholder = this.getAttribute("placeholder") ?? words.placeholder;
    this.#field.setAttribute("aria-label", this.#field.placeholder);
    this.#attach.textContent = "+";
    for (const name of ["aria-label", "title"]) this.#attach.setAttribute(name, words.attach);
    this.#send.textContent = this.#answering ? words.stop : words.send;
    this.#clear.textContent = words.clear;
    this.#clear.hidden = this.#log.childElementCount === 0;
  }
}

function button(part: string): HTMLButtonElement {
  const made = document.createElement("button");
  made.type = "button";
  made.className = part;
  made.part.add(part);
  return made;
}

/** A file that is shown. */
interface Shown {
  readonly file: File;
  readonly view: HTMLImageElement | HTMLVideoElement;
}

/** A file as people see it, which is added to `list`. */
function itemOf(file: File, list: Shown[]): HTMLLIElement {
  const item = document.createElement("li");
  const view = document.createElement(file.type.startsWith("video/") ? "video" : "img");
  if (view instanceof HTMLVideoElement) {
    [view.muted, view.controls] = [true, true];
    view.setAttribute("aria-label", file.name ?? "");
  } else {
    view.alt = file.name ?? "";
  }
  list.push({ file, view });
  show({ file, view });
  item.append(view);
  return item;
}

function show({ file, view }: Shown): void {
  if (!view.hasAttribute("src")) view.src = URL.createObjectURL(file);
}

/** An address that nobody revokes keeps its file alive. */
function hide({ view }: Shown): void {
  URL.revokeObjectURL(view.src);
  view.removeAttribute("src");
}

/** The codes of errors after which a model answers no more. */
const GONE: readonly UniviErrorCode[] = ["device-lost", "internal", "out-of-memory"];

function addressOf(model: string): URL {
  try {
    return new URL(model, document.baseURI);
  } catch (cause) {
    throw new UniviError("bad-request", `univi-chat: model="${model}" is no address`, { cause });
  }
}

/** What `work` comes to, or at once the reason of a signal. */
function unlessStopped<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    work.then(resolve, reject);
  });
}

/** Bytes as people read them; nothing of 0. */
function megabytes(bytes: number): string {
  return bytes > 0 ? `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB` : "";
}
