/** The model: which one, whether it fits, how far it has come, and what is kept of others. */
import {
  type Availability,
  type CachedModel,
  cachedModels,
  deleteCachedModel,
  type Device,
  type KvCache,
  type LoadProgress,
  persistCache,
  storageEstimate,
  Univi,
  UniviError,
} from "univi";

import { hideAlert, showAlert } from "./alert.js";
import { confirmed } from "./confirm.js";
import { announce, button, byId, make } from "./dom.js";
import { closeDrawer, isDrawerOpen, openDrawer, whenDrawerOpens } from "./drawer.js";
import { date, duration, size } from "./format.js";
import {
  chosenOnHub,
  conversionFacts,
  FROM_HUB,
  hubOptions,
  keptHere,
  pageOnHub,
  showHubFields,
} from "./hub-panel.js";
import { type Offer, offers } from "./models.js";
import { remember, remembered } from "./remembered.js";
import { words } from "./words/index.js";

/** What computes, and how it keeps a conversation, are kept between visits. */
const KEPT = { device: "univi.device", kvCache: "univi.kv-cache" };
const AT_ADDRESS = "url";
const OWN_FILES = "files";
const OWN_FOLDER = "folder";
/** Before more than this is downloaded, it is asked. */
const ASK_FROM_BYTES = 64e6;
/** Characters of an address that a question shows. */
const ADDRESS_SHOWN = 200;
/** Above this, a model is no fun without a GPU, and worth asking the browser to keep it. */
const LARGE_BYTES = 500e6;

const form = byId("model-form", HTMLFormElement);
const choice = byId("model-choice", HTMLSelectElement);
const url = byId("model-url", HTMLInputElement);
const files = byId("model-files", HTMLInputElement);
const folder = byId("model-folder", HTMLInputElement);
const device = byId("model-device", HTMLSelectElement);
const kvCache = byId("model-kv-cache", HTMLSelectElement);
const loadButton = byId("model-load", HTMLButtonElement);
const pauseButton = byId("model-pause", HTMLButtonElement);
const cancelButton = byId("model-cancel", HTMLButtonElement);
const note = byId("model-note", HTMLParagraphElement);
const alert = byId("model-alert", HTMLDivElement);
const loading = byId("loading", HTMLDivElement);
const loadingBar = byId("loading-bar", HTMLProgressElement);
const loadingText = byId("loading-text", HTMLParagraphElement);
const inUse = byId("model-in-use", HTMLButtonElement);
const inUseName = byId("model-name", HTMLSpanElement);
const inUseDevice = byId("device", HTMLSpanElement);
const kept = byId("kept", HTMLDetailsElement);
const keptModels = byId("kept-models", HTMLUListElement);
const keptRoom = byId("kept-room", HTMLParagraphElement);

/** What is loaded, and how. */
interface LoadOptions {
  readonly model: string | readonly File[];
  readonly quantization?: string;
  readonly hubEndpoint?: string;
  readonly device: Device;
  readonly kvCache: KvCache;
  readonly allowedOrigins: readonly string[];
  readonly signal: AbortSignal;
}

/** What the rest of the page does when models come and go. */
export interface ModelListener {
  /** A model is chosen, but not loaded; one of the site's offers, or another. */
  readonly chosen: (offer: Offer | undefined) => void;
  /** A model can be asked. */
  readonly loaded: (univi: Univi) => void;
  /** The model is about to go. */
  readonly forgotten: () => void;
}

/** The part of the drawer, and of the bar at the head, that is about the model. */
export class ModelPanel {
  readonly #listener: ModelListener;
  #offered: Offer[] = [];
  #univi: Univi | undefined;
  /** What the page calls the model that is loaded, and the choices that it was loaded by. */
  #loaded = { label: "", key: "" };
  #loading: { readonly abort: AbortController; readonly done: Promise<void> } | undefined;
  /** Addresses of models on other hosts that the person agreed to during this visit. */
  readonly #agreed = new Set<string>();
  #paused = false;
  #amount = "";
  /** Bytes of the model that is loading, for one whose files do not tell; 0 where nobody does. */
  #bytes = 0;
  /** Whether the model that is loading is a checkpoint, which is converted. */
  #converts = false;

  constructor(listener: ModelListener) {
    this.#listener = listener;
    whenDrawerOpens(() => void this.#listPhotoModels());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      closeDrawer();
      void this.load();
    });
    cancelButton.addEventListener("click", () => this.#stop());
    pauseButton.addEventListener("click", () => (this.#paused ? void this.load() : this.#pause()));
    choice.addEventListener("change", () => this.#choose());
    for (const [key, select] of [
      [KEPT.device, device],
      [KEPT.kvCache, kvCache],
    ] as const) {
      select.value = remembered(key) ?? "";
      if (select.selectedIndex < 0) select.selectedIndex = 0;
      select.addEventListener("change", () => {
        remember(key, select.value);
        this.#showChoice();
      });
    }
    kept.addEventListener("toggle", () => void this.showKept());
  }

  /** The model, where one is loaded. */
  get univi(): Univi | undefined {
    return this.#univi;
  }

  /** What the page calls the model that is loaded. */
  get label(): string {
    return this.#loaded.label;
  }

  /** The address of the model that is chosen; none for files of this computer or the Hub. */
  get address(): string | undefined {
    if (choice.value === AT_ADDRESS) return url.value || undefined;
    return this.#offered[Number(choice.value)]?.url;
  }

  /** Opens the list of models that know photographs. */
  showPhotoModels(): void {
    openDrawer(byId("photo-models-heading", HTMLHeadingElement));
  }

  /** Offers the site's models; `asked` is the one that the page's address asks for. */
  async offer(asked: string | null): Promise<void> {
    const { offers: offered, fault } = await offers();
    this.#offered = offered;
    if (fault !== undefined) this.#fail(new Error(fault));
    if (asked !== null) {
      const index = this.#offered.findIndex((offer) => offer.url === asked);
      url.value = asked;
      this.translate(index < 0 ? AT_ADDRESS : String(index));
    } else {
      this.translate();
    }
  }

  /** Says everything in the language that is spoken now. */
  translate(chosen = choice.value || "0"): void {
    choice.replaceChildren(
      ...this.#offered.map(({ name }, index) => make("option", { value: String(index) }, name)),
      make("option", { value: AT_ADDRESS }, words.atAddress),
      ...hubOptions(),
      make("option", { value: OWN_FILES }, words.onThisComputer),
      make("option", { value: OWN_FOLDER }, words.folderOnThisComputer),
    );
    choice.value = chosen;
    if (choice.selectedIndex < 0) choice.selectedIndex = 0;
    this.#choose();
    if (isDrawerOpen()) void this.#listPhotoModels();
    pauseButton.textContent = this.#paused ? words.resume : words.pause;
    if (kept.open) void this.showKept();
  }

  async #listPhotoModels(): Promise<void> {
    const { listPhotoModels } = await import("./photo-models.js");
    listPhotoModels(this.#offered, (value) => {
      choice.value = value;
      this.#choose();
      loadButton.focus();
    });
  }

  /**
   * The model that is chosen, loaded now if need be; what is loading already is waited for.
   * Undefined where that fails, or is called off.
   */
  async ready(): Promise<Univi | undefined> {
    await this.#loading?.done;
    if (!this.#univi || this.#loaded.key !== chosenKey()) await this.load();
    return this.#univi;
  }

  /** Loads what is chosen in place of what is loaded. */
  load(): Promise<void> {
    this.#stop();
    const abort = new AbortController();
    inUse.dataset.state = "loading";
    const done = this.#load(abort).finally(() => {
      if (this.#loading?.abort === abort) this.#end();
    });
    this.#loading = { abort, done };
    return done;
  }

  /** What the browser keeps, with a button to remove each. */
  async showKept(): Promise<void> {
    if (!kept.open) return;
    const [models, estimate] = await Promise.all([
      cachedModels().catch((): CachedModel[] => []),
      storageEstimate(),
    ]);
    const lines = models.map((model) => {
      const when = model.usedAt ? date(model.usedAt) : "";
      const state = model.complete
        ? words.keptWhole(size(model.bytes), when)
        : words.keptPart(size(model.bytes));
      const remove = button(
        "button quiet small",
        words.remove,
        () => void this.#remove(model),
        words.removeOne(model.name),
      );
      return make(
        "li",
        {},
        make("span", { title: model.url }, model.name),
        make("span", { className: "small muted" }, state),
        remove,
      );
    });
    keptModels.replaceChildren(
      ...(lines.length > 0 ? lines : [make("li", { className: "small muted" }, words.keptNothing)]),
    );
    keptRoom.textContent = estimate
      ? words.keptRoom(size(estimate.usedBytes), size(estimate.quotaBytes))
      : "";
  }

  async #remove(model: CachedModel): Promise<void> {
    await deleteCachedModel(model.url).catch((error: unknown) => this.#fail(error));
    announce(words.removed(model.name));
    await this.showKept();
  }

  async #load(abort: AbortController): Promise<void> {
    const { signal } = abort;
    const key = chosenKey();
    this.#forget();
    hideAlert(alert);
    this.#paused = false;
    cancelButton.hidden = false;
    loadButton.disabled = true;
    const onHub = choice.value === FROM_HUB ? chosenOnHub() : undefined;
    const model = onHub?.model ?? this.#chosen();
    const host = onHub ? pageOnHub(onHub) : otherHost(model);
    const keptAs = onHub && (await keptHere(onHub));
    const elsewhere = keptAs === undefined ? host : undefined;
    try {
      if (elsewhere && !(await this.#mayAsk(elsewhere, signal))) return;
      const options: LoadOptions = {
        model,
        ...onHub,
        device: device.value as Device,
        kvCache: kvCache.value as KvCache,
        allowedOrigins: [location.origin, ...(elsewhere ? [elsewhere.origin] : [])],
        signal,
      };
      if (!(await this.#mayDownload(options, elsewhere))) return;
      // What is published as it is loaded has its own quantization.
      const { quantization, ...asPublished } = options;
      const converts = keptAs === "converted" || this.#converts;
      if (elsewhere) this.#agreed.add(elsewhere.href);
      if (onHub) void persistCache();
      signal.throwIfAborted();
      loading.hidden = false;
      const univi = await Univi.create({
        ...(converts ? options : asPublished),
        onProgress: (progress) => this.#show(progress),
      });
      if (signal.aborted) return univi.dispose();
      this.#univi = univi;
      const offer = this.#offered[Number(choice.value)];
      this.#loaded = { label: offer?.name ?? univi.info.name, key };
      const where = `${univi.info.device === "webgpu" ? "WebGPU" : "CPU"}: ${univi.info.adapter}`;
      inUseDevice.textContent = where;
      inUse.title = [where, univi.info.deviceReason].filter(Boolean).join(": ");
      inUseDevice.hidden = false;
      this.#showChoice();
      announce(words.ready(univi.info.name, where));
      this.#listener.loaded(univi);
      if (univi.info.bytes > LARGE_BYTES) void persistCache();
      void this.showKept();
    } catch (error) {
      if (!signal.aborted) this.#fail(error, this.#remedy(error));
    }
  }

  #fail(error: unknown, help?: HTMLButtonElement): void {
    closeDrawer(); // It would hide what is said.
    showAlert(alert, error, help);
  }

  /** Asks before another host hears anything: not even its name and size can be known till then. */
  async #mayAsk(address: URL, signal: AbortSignal): Promise<boolean> {
    if (this.#agreed.has(address.href)) return true;
    const offer = this.#offered[Number(choice.value)];
    const listed =
      offer === undefined ? [] : [words.listedAs(offer.name, offer.bytes ? size(offer.bytes) : "")];
    const facts = [
      ...listed,
      words.addressIs(`${address.origin}${address.pathname}`.slice(0, ADDRESS_SHOWN)),
      words.hostLearns(address.host),
      words.descriptionFirst,
    ];
    return confirmed({ question: words.askHost(address.host), facts, agree: words.askIt }, signal);
  }

  /**
   * Before much is downloaded, or anything from another host, says what it takes and what there is,
   * and asks.
   */
  async #mayDownload(options: LoadOptions, elsewhere: URL | undefined): Promise<boolean> {
    const offer = this.#offered[Number(choice.value)];
    this.#bytes = offer?.bytes ?? 0;
    this.#converts = false;
    const asksAnyway = elsewhere !== undefined && !this.#agreed.has(elsewhere.href);
    if (typeof options.model !== "string") return true;
    if (!asksAnyway && (offer?.bytes ?? Infinity) <= ASK_FROM_BYTES) return true;
    loading.hidden = false;
    loadingBar.removeAttribute("value");
    loadingText.textContent = words.checking;
    const [found, estimate] = await Promise.all([Univi.availability(options), storageEstimate()]);
    if (found.status === "unavailable")
      throw new UniviError(found.code ?? "internal", found.reason ?? "");
    const { bytes = elsewhere ? 0 : (offer?.bytes ?? 0), cachedBytes = 0 } = found;
    this.#bytes = bytes;
    const { conversion } = found;
    this.#converts = conversion !== undefined;
    const missing = conversion
      ? conversion.fetchBytes - conversion.fetchedBytes
      : bytes - cachedBytes;
    if (!asksAnyway && missing <= ASK_FROM_BYTES) return true;
    loading.hidden = true;
    const name = (elsewhere ? found.name : offer?.name) ?? options.model;
    return confirmed(
      {
        question:
          bytes > 0 ? words.beforeDownload(name, size(missing)) : words.beforeDownloadUnsized(name),
        facts: [
          ...conversionFacts(found),
          ...(elsewhere && !found.conversion ? [words.comesFrom(elsewhere.host)] : []),
          ...facts({ ...found, bytes }, conversion ? bytes : missing, estimate),
        ],
        agree: words.downloadAndLoad,
      },
      options.signal,
    );
  }

  #chosen(): string | readonly File[] {
    if (choice.value === OWN_FILES) return [...(files.files ?? [])];
    if (choice.value === OWN_FOLDER) return [...(folder.files ?? [])];
    if (choice.value === AT_ADDRESS) return url.value;
    return this.#offered[Number(choice.value)]!.url;
  }

  #show({ phase, loaded, total: reported, file, bytesPerSecond, etaSeconds }: LoadProgress): void {
    const total = reported || this.#bytes;
    if (total > 0) loadingBar.value = loaded / total;
    else loadingBar.removeAttribute("value");
    this.#amount = total > 0 ? words.amount(size(loaded), size(total)) : size(loaded);
    const speed = bytesPerSecond === undefined ? [] : [words.perSecond(size(bytesPerSecond))];
    const left =
      etaSeconds === undefined || etaSeconds < 2 ? [] : [words.left(duration(etaSeconds))];
    const amounts = [this.#amount, ...speed, ...left].join(", ");
    const says = {
      manifest: words.reading(file),
      convert: `${words.converting(file)}: ${amounts}`,
      download: `${words.downloading(file)}: ${amounts}`,
      verify: `${words.verifying(file)}: ${amounts}`,
      upload: words.uploading,
      compile: words.compiling,
      ready: "",
    };
    loadingText.textContent = says[phase];
    pauseButton.hidden = phase !== "download" && phase !== "convert";
  }

  /** Stops the download; what has come is kept, and loading again goes on from there. */
  #pause(): void {
    this.#loading?.abort.abort();
    this.#loading = undefined;
    this.#paused = true;
    loadButton.disabled = false;
    pauseButton.hidden = false;
    pauseButton.textContent = words.resume;
    loadingText.textContent = words.paused(this.#amount);
    announce(loadingText.textContent);
  }

  #stop(): void {
    this.#loading?.abort.abort();
    this.#paused = false;
    this.#end();
  }

  #end(): void {
    this.#loading = undefined;
    this.#showChoice();
    loading.hidden = true;
    cancelButton.hidden = true;
    pauseButton.hidden = true;
    pauseButton.textContent = words.pause;
    loadButton.disabled = false;
  }

  #forget(): void {
    if (!this.#univi) return;
    this.#listener.forgotten();
    this.#univi.dispose();
    this.#univi = undefined;
    inUseDevice.hidden = true;
    inUse.title = "";
    this.#showChoice();
  }

  #remedy(error: unknown): HTMLButtonElement | undefined {
    const gpuFailed =
      error instanceof UniviError &&
      ["no-gpu", "device-lost", "out-of-memory", "gpu"].includes(error.code);
    if (!gpuFailed || device.value === "cpu") return undefined;
    return button("button small", words.useCpu, () => {
      device.value = "cpu";
      void this.load();
    });
  }

  #choose(): void {
    byId("model-url-field", HTMLLabelElement).hidden = choice.value !== AT_ADDRESS;
    showHubFields(choice.value === FROM_HUB);
    byId("model-files-field", HTMLLabelElement).hidden = choice.value !== OWN_FILES;
    byId("model-folder-field", HTMLLabelElement).hidden = choice.value !== OWN_FOLDER;
    const offer = this.#offered[Number(choice.value)];
    this.#showChoice();
    this.#listener.chosen(offer);
  }

  /** Says which model answers, and what is to be known of the one that is chosen. */
  #showChoice(): void {
    const offer = this.#offered[Number(choice.value)];
    const other = this.#univi !== undefined && this.#loaded.key !== chosenKey();
    const notes = [
      ...(other ? [words.otherChosen(this.#loaded.label)] : []),
      ...(offer?.note ? [offer.note] : []),
    ];
    note.hidden = notes.length === 0;
    note.textContent = notes.join(" ");
    inUseName.textContent = this.#univi
      ? this.#loaded.label
      : (offer?.name ?? choice.selectedOptions[0]?.textContent ?? "");
    inUse.dataset.state = this.#univi ? "ready" : this.#loading ? "loading" : "none";
  }
}

/** What is chosen, and how it is to run, as one text to compare. */
function chosenKey(): string {
  const picked = [...(files.files ?? []), ...(folder.files ?? [])].map(
    ({ name, size }) => `${name} ${size}`,
  );
  const chosen =
    {
      [AT_ADDRESS]: url.value,
      [FROM_HUB]: JSON.stringify(chosenOnHub()),
      [OWN_FILES]: picked.join(),
      [OWN_FOLDER]: picked.join(),
    }[choice.value] ?? "";
  return [choice.value, chosen, device.value, kvCache.value].join("\n");
}

/** The address of a model that lies on another host than this page. */
function otherHost(model: string | readonly File[]): URL | undefined {
  if (typeof model !== "string" || !URL.canParse(model, document.baseURI)) return undefined;
  const address = new URL(model, document.baseURI);
  // What is no address of a host, such as `file:`, the package refuses with a reason.
  const isOther = /^https?:$/.test(address.protocol) && address.origin !== location.origin;
  return isOther ? address : undefined;
}

/** What to know before a download, in sentences. */
function facts(
  { device, adapter, bytes = 0, cachedBytes = 0 }: Availability,
  missing: number,
  estimate: { usedBytes: number; quotaBytes: number } | undefined,
): string[] {
  const free = estimate && estimate.quotaBytes - estimate.usedBytes;
  const storage =
    free === undefined
      ? words.storageUnknown
      : free < missing
        ? words.storageShort(size(free))
        : words.storageEnough(size(free));
  return [
    ...(cachedBytes > 0 ? [words.partKept(size(cachedBytes))] : []),
    words.computes(device === "webgpu" ? `WebGPU${adapter ? ` (${adapter})` : ""}` : "CPU"),
    ...(device === "webgpu" && bytes > 0
      ? [words.roomGranted]
      : bytes > LARGE_BYTES
        ? [words.cpuIsSlow]
        : []),
    ...(bytes > 0 ? [storage] : []),
  ];
}
