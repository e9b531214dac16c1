/** The page: choose a model, show it something, ask. */
import { type AskProgress, type LoadProgress, type Part, type Seen, type Session, Univi, UniviError, type Usage } from "univi";

import { Camera } from "./camera.js";
import { nameOf, thumb, Turn } from "./conversation.js";
import { byId, make } from "./dom.js";
import { offers, type Offer } from "./models.js";
import { sampleRow } from "./samples.js";
import { drawSeen, type Shown } from "./saw.js";

const OTHER_URL = "url";
const OWN_FILES = "files";
const SUGGESTIONS = ["Describe this in detail.", "What is unusual here?", "What happens, step by step?"];

const modelForm = byId("model-form", HTMLFormElement);
const modelChoice = byId("model-choice", HTMLSelectElement);
const modelUrl = byId("model-url", HTMLInputElement);
const modelFiles = byId("model-files", HTMLInputElement);
const modelDevice = byId("model-device", HTMLSelectElement);
const modelLoad = byId("model-load", HTMLButtonElement);
const modelCancel = byId("model-cancel", HTMLButtonElement);
const modelNote = byId("model-note", HTMLParagraphElement);
const modelAlert = byId("model-alert", HTMLDivElement);
const loading = byId("loading", HTMLDivElement);
const loadingBar = byId("loading-bar", HTMLProgressElement);
const loadingText = byId("loading-text", HTMLParagraphElement);
const device = byId("device", HTMLParagraphElement);

const turns = byId("turns", HTMLOListElement);
const talkEmpty = byId("talk-empty", HTMLDivElement);
const suggestions = byId("suggestions", HTMLUListElement);
const samples = byId("samples", HTMLUListElement);
const askForm = byId("ask-form", HTMLFormElement);
const askAlert = byId("ask-alert", HTMLDivElement);
const attachments = byId("attachments", HTMLUListElement);
const attach = byId("attach", HTMLInputElement);
const question = byId("question", HTMLTextAreaElement);
const cameraOpen = byId("camera-open", HTMLButtonElement);
const cameraChoice = byId("camera-choice", HTMLSelectElement);
const askButton = byId("ask", HTMLButtonElement);
const stopButton = byId("stop", HTMLButtonElement);
const restart = byId("restart", HTMLButtonElement);
const settings = byId("settings", HTMLDetailsElement);
const temperature = byId("temperature", HTMLInputElement);
const maxTokens = byId("max-tokens", HTMLInputElement);
const announce = byId("announce", HTMLParagraphElement);

const saw = byId("saw", HTMLDivElement);
const sawEmpty = byId("saw-empty", HTMLDivElement);

let offered: Offer[] = [];
let univi: Univi | undefined;
let session: Session | undefined;
let loadingNow: { readonly abort: AbortController; readonly done: Promise<void> } | undefined;
let answering: AbortController | undefined;
let camera: Camera | undefined;
let drawing = new AbortController();
let attached: readonly Shown[] = [];
const seenOf = new Map<Shown, Seen>();

// The model.

function load(): Promise<void> {
  loadingNow?.abort.abort();
  const abort = new AbortController();
  const done = loadChosen(abort).finally(() => {
    if (loadingNow?.abort === abort) endLoading();
  });
  loadingNow = { abort, done };
  return done;
}

async function loadChosen(abort: AbortController): Promise<void> {
  forget();
  hideAlert(modelAlert);
  loading.hidden = false;
  modelCancel.hidden = false;
  modelLoad.disabled = true;
  try {
    univi = await Univi.create({
      model: chosenModel(),
      device: modelDevice.value as "auto" | "webgpu" | "cpu",
      onProgress: showLoading,
      signal: abort.signal,
    });
    session = univi.session();
    camera?.watch(univi, showCameraError);
    device.textContent = `${univi.info.device === "webgpu" ? "WebGPU" : "CPU"}: ${univi.info.adapter}`;
    device.title = device.textContent;
    device.hidden = false;
    announce.textContent = `${univi.info.name} is ready on ${device.textContent}.`;
  } catch (error) {
    if (!abort.signal.aborted) showAlert(modelAlert, error, loadRemedy(error));
  }
}

function endLoading(): void {
  loadingNow = undefined;
  loading.hidden = true;
  modelCancel.hidden = true;
  modelLoad.disabled = false;
  updateAsk();
}

/** Lets go of the loaded model and its conversation. */
function forget(): void {
  answering?.abort();
  camera?.forget();
  univi?.dispose();
  univi = undefined;
  device.hidden = true;
  clearConversation();
}

function chosenModel(): string | readonly File[] {
  if (modelChoice.value === OWN_FILES) return [...(modelFiles.files ?? [])];
  if (modelChoice.value === OTHER_URL) return modelUrl.value;
  return offered[Number(modelChoice.value)]!.url;
}

function showLoading({ phase, loaded, total, file, bytesPerSecond, etaSeconds }: LoadProgress): void {
  if (total > 0) loadingBar.value = loaded / total;
  else loadingBar.removeAttribute("value");
  const amount = total > 0 ? `${size(loaded)} of ${size(total)}` : size(loaded);
  const speed = bytesPerSecond === undefined ? "" : `, ${size(bytesPerSecond)}/s`;
  const left = etaSeconds === undefined || etaSeconds < 2 ? "" : `, ${duration(etaSeconds)} left`;
  const words = {
    manifest: `Reading ${file}`,
    download: `${file}: ${amount}${speed}${left}`,
    verify: `${file}, kept from last time: ${amount}${speed}${left}`,
    upload: "Handing the last of it to the device",
    compile: "Preparing the device",
    ready: "Ready",
  };
  loadingText.textContent = words[phase];
}

function loadRemedy(error: unknown): HTMLButtonElement | undefined {
  const gpuFailed = error instanceof UniviError && ["no-gpu", "device-lost", "out-of-memory", "gpu"].includes(error.code);
  if (!gpuFailed || modelDevice.value === "cpu") return undefined;
  return remedy("Use the CPU instead", () => {
    modelDevice.value = "cpu";
    void load();
  });
}

function updateModelForm(): void {
  byId("model-url-field", HTMLLabelElement).hidden = modelChoice.value !== OTHER_URL;
  byId("model-files-field", HTMLLabelElement).hidden = modelChoice.value !== OWN_FILES;
  const note = offered[Number(modelChoice.value)]?.note;
  modelNote.hidden = note === undefined;
  modelNote.textContent = note ?? "";
}

// The conversation.

async function ask(): Promise<void> {
  const text = question.value.trim();
  if (answering || text === "" || !askForm.reportValidity()) return;
  // Whoever asks wants the model, too; what is loading already is waited for.
  if (!univi) await (loadingNow?.done ?? load());
  if (!univi || !session || answering) return;
  const abort = (answering = new AbortController());
  updateAsk();
  // What is attached comes before what goes on.
  const live = attached.length === 0 ? camera?.watch(univi, showCameraError) : undefined;
  await live?.ready({ signal: abort.signal }).catch(() => {}); // Turned off or stopped meanwhile: asking will say so.
  const shown: readonly Shown[] = live && camera ? [{ kind: "live", stills: new Map(camera.stills) }] : attached;
  const turn = new Turn(text, shown, (one, button) => void show(one, button));
  hideAlert(askAlert);
  talkEmpty.hidden = true;
  turns.append(turn.element);
  turn.element.scrollIntoView({ block: "nearest" });
  setAttached([]);
  question.value = "";
  updateAsk();

  const parts: Part[] = [...shown.flatMap((one) => (one.kind === "live" ? [] : one.kind === "clip" ? { video: one.file } : one.file)), text];
  const answer = (live ?? session).ask(parts, {
    temperature: temperature.valueAsNumber,
    maxTokens: maxTokens.valueAsNumber,
    signal: abort.signal,
    onProgress: (progress) => (turn.numbers = askPhase(progress)),
  });
  try {
    let drawn = false;
    for await (const piece of answer) {
      if (!drawn) drawn = noteSeen(shown, answer.seen, turn);
      turn.say(piece);
    }
    if (!drawn) noteSeen(shown, answer.seen, turn);
    if (answer.usage) turn.numbers = numbers(answer.usage);
    announce.textContent = `Answer: ${turn.text}`;
  } catch (error) {
    if (abort.signal.aborted) {
      noteSeen(shown, answer.seen, turn);
      turn.numbers = "Stopped.";
      announce.textContent = "Stopped.";
    } else {
      turn.element.remove();
      talkEmpty.hidden = turns.childElementCount > 0;
      question.value ||= text;
      if (attached.length === 0 && !live) setAttached(shown);
      showAlert(askAlert, error, askRemedy(error));
    }
  } finally {
    turn.end();
    answering = undefined;
    updateAsk();
  }
}

function askPhase({ phase, loaded, total }: AskProgress): string {
  if (phase === "frames") return `Decoding frame ${loaded} of ${total}`;
  if (phase === "encode") return total > 1 ? `Looking at ${loaded + 1} of ${total}` : "Looking";
  return "Reading the question";
}

function numbers({ promptTokens, visualTokens, completionTokens, timeToFirstTokenMs, tokensPerSecond }: Usage): string {
  const visual = visualTokens > 0 ? ` (${visualTokens} visual)` : "";
  const speed = completionTokens > 1 ? `, ${tokensPerSecond.toFixed(1)} tokens/s` : "";
  return `${promptTokens} tokens in${visual}, ${completionTokens} out, first after ${(timeToFirstTokenMs / 1000).toFixed(2)} s${speed}`;
}

/** Keeps what was seen and draws the first of it. */
function noteSeen(shown: readonly Shown[], seen: readonly Seen[], turn: Turn): boolean {
  for (const [index, one] of shown.entries()) {
    const what = seen[index];
    if (what) seenOf.set(one, what);
  }
  const [first] = shown;
  const button = turn.element.querySelector<HTMLButtonElement>(".shown button");
  if (first && button) void show(first, button);
  return true;
}

async function show(shown: Shown, button: HTMLButtonElement): Promise<void> {
  const seen = seenOf.get(shown);
  if (!seen) return;
  drawing.abort();
  drawing = new AbortController();
  for (const other of turns.querySelectorAll(".shown button")) other.setAttribute("aria-pressed", String(other === button));
  sawEmpty.hidden = true;
  saw.hidden = false;
  await drawSeen(saw, shown, seen, drawing.signal);
}

function clearConversation(): void {
  answering?.abort();
  session?.dispose();
  session = univi?.session();
  turns.replaceChildren();
  talkEmpty.hidden = false;
  hideAlert(askAlert);
  drawing.abort();
  seenOf.clear();
  saw.replaceChildren();
  saw.hidden = true;
  sawEmpty.hidden = false;
  updateAsk();
}

function askRemedy(error: unknown): HTMLButtonElement | undefined {
  if (!(error instanceof UniviError)) return undefined;
  if (error.code === "context-overflow") return remedy("Start over", clearConversation);
  if (error.code === "device-lost" || error.code === "internal") return remedy("Load the model again", () => void load());
  return undefined;
}

function updateAsk(): void {
  const busy = answering !== undefined;
  askButton.disabled = busy || question.value.trim() === "";
  askButton.hidden = busy;
  stopButton.hidden = !busy;
  restart.disabled = turns.childElementCount === 0;
}

// What is shown to the model.

function setAttached(shown: readonly Shown[]): void {
  attached = shown;
  attachments.replaceChildren(
    ...shown.map((one) => {
      const remove = make("button", { type: "button", className: "remove", title: "Remove" }, "×");
      remove.setAttribute("aria-label", `Remove ${nameOf(one)}`);
      remove.addEventListener("click", () => setAttached(attached.filter((other) => other !== one)));
      return make("li", { className: "attachment" }, thumb(one), remove);
    }),
  );
}

function addFiles(files: Iterable<File>): void {
  hideAlert(askAlert);
  const added = [...files].map((file): Shown => ({ file, kind: file.type.startsWith("video/") ? "clip" : "image" }));
  setAttached([...attached, ...added]);
  question.focus();
}

async function openCamera(deviceId?: string): Promise<void> {
  closeCamera();
  hideAlert(askAlert);
  try {
    camera = await Camera.open(deviceId);
    if (univi) camera.watch(univi, showCameraError);
    cameraOpen.hidden = true;
    announce.textContent = "The camera is on.";
    question.focus();
  } catch (error) {
    showAlert(askAlert, error, undefined);
  }
}

function closeCamera(): void {
  camera?.close();
  camera = undefined;
  cameraOpen.hidden = false;
}

function showCameraError(error: unknown): void {
  showAlert(askAlert, error, askRemedy(error));
}

/** Offers questions; one that is chosen can still be changed. */
function suggest(questions: readonly string[]): void {
  suggestions.replaceChildren(
    ...questions.map((text) => {
      const button = make("button", { type: "button" }, text);
      button.addEventListener("click", () => {
        question.value = text;
        updateAsk();
        question.focus();
      });
      return make("li", {}, button);
    }),
  );
}

// Words.

function duration(seconds: number): string {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;
}

function size(bytes: number): string {
  const units = ["B", "kB", "MB", "GB"];
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), units.length - 1);
  return `${(bytes / 1000 ** power).toFixed(power < 2 ? 0 : power - 1)} ${units[power]}`;
}

function showAlert(alert: HTMLElement, error: unknown, help: HTMLButtonElement | undefined): void {
  const text = error instanceof Error ? error.message : String(error);
  alert.replaceChildren(make("p", {}, text));
  if (error instanceof UniviError) alert.dataset["code"] = error.code;
  if (help) alert.append(help);
  alert.hidden = false;
}

function hideAlert(alert: HTMLElement): void {
  alert.hidden = true;
  delete alert.dataset["code"];
}

function remedy(label: string, act: () => void): HTMLButtonElement {
  const button = make("button", { type: "button", className: "button small" }, label);
  button.addEventListener("click", act);
  return button;
}

// Wiring.

modelForm.addEventListener("submit", (event) => {
  event.preventDefault();
  void load();
});
modelCancel.addEventListener("click", () => loadingNow?.abort.abort());
modelChoice.addEventListener("change", updateModelForm);
askForm.addEventListener("submit", (event) => {
  event.preventDefault();
  void ask();
});
question.addEventListener("input", updateAsk);
// A field that is folded away can't say what is wrong with it.
settings.addEventListener("invalid", () => (settings.open = true), { capture: true });
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    void ask();
  }
});
stopButton.addEventListener("click", () => answering?.abort());
restart.addEventListener("click", clearConversation);
cameraOpen.addEventListener("click", () => void openCamera());
cameraChoice.addEventListener("change", () => void openCamera(cameraChoice.value));
byId("camera-close", HTMLButtonElement).addEventListener("click", closeCamera);
attach.addEventListener("change", () => {
  addFiles(attach.files ?? []);
  attach.value = "";
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape") answering?.abort();
});
addEventListener("paste", (event) => {
  const files = event.clipboardData?.files;
  if (files?.length) addFiles(files);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  addFiles(event.dataTransfer?.files ?? []);
});
suggest(SUGGESTIONS);
void sampleRow((file, questions) => {
  setAttached([]);
  addFiles([file]);
  suggest(questions);
  question.value = questions[0] ?? "";
  updateAsk();
}).then((row) => samples.append(...row));

offered = await offers();
const asked = new URLSearchParams(location.search).get("model");
modelChoice.append(
  ...offered.map(({ name }, index) => make("option", { value: String(index) }, name)),
  make("option", { value: OTHER_URL }, "Another on this site"),
  make("option", { value: OWN_FILES }, "Files on this computer"),
);
if (asked !== null) {
  const index = offered.findIndex(({ url }) => url === asked);
  modelChoice.value = index < 0 ? OTHER_URL : String(index);
  modelUrl.value = asked;
}
updateModelForm();
updateAsk();
