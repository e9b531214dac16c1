/** The page: its parts, put together. */
import { showAlert } from "./alert.js";
import { Chat } from "./chat.js";
import { byId, save } from "./dom.js";
import { wireDrawer } from "./drawer.js";
import { ModelPanel } from "./model-panel.js";
import { MetricsPanel } from "./metrics-panel.js";
import { keepAllOffline } from "./offline.js";
import { sampleRow } from "./samples.js";
import { showSettings, wireSettings } from "./settings.js";
import { type Language, preferredLanguage, speak, words } from "./words/index.js";

const language = byId("language", HTMLSelectElement);
const benchmarkButton = byId("benchmark", HTMLButtonElement);
const benchmarkStatus = byId("benchmark-status", HTMLSpanElement);
const benchmarkReport = byId("benchmark-report", HTMLDivElement);
const benchmarkText = byId("benchmark-text", HTMLPreElement);

language.value = preferredLanguage();
if (language.value !== "en") await speak(language.value as Language, false);

const metrics = new MetricsPanel();
const model: ModelPanel = new ModelPanel({
  chosen: (offer) => chat.composer.suggest(offer?.questions),
  loaded: (univi) => {
    chat.begin(univi);
    void keepAllOffline();
    benchmarkButton.disabled = false;
  },
  forgotten: () => {
    chat.end();
    benchmarking?.abort();
    benchmarkButton.disabled = true;
  },
});
const chat = new Chat(model, metrics);
let benchmarking: AbortController | undefined;

language.addEventListener("change", () => void changeLanguage(language.value as Language));

async function changeLanguage(chosen: Language): Promise<void> {
  await speak(chosen, true);
  model.translate();
  chat.translate();
  metrics.draw();
  showSettings();
  const { redrawTokenMap } = await import("./token-map-panel.js");
  await Promise.all([drawSamples(), redrawTokenMap()]);
}

async function drawSamples(): Promise<void> {
  const row = await sampleRow(language.value as Language, (file, questions) =>
    chat.composer.showSample(file, questions),
  );
  byId("samples", HTMLUListElement).replaceChildren(...row);
}

async function runBenchmark(): Promise<void> {
  const { univi } = model;
  if (!univi) return;
  benchmarking = new AbortController();
  benchmarkButton.disabled = true;
  try {
    const { benchmark } = await import("./benchmark.js");
    benchmarkText.textContent = await benchmark(
      univi,
      (round, of) => (benchmarkStatus.textContent = words.benchmarking(round, of)),
      benchmarking.signal,
    );
    benchmarkStatus.textContent = words.benchmarkDone;
    benchmarkReport.hidden = false;
  } catch (error) {
    benchmarkStatus.textContent = "";
    if (!benchmarking.signal.aborted) showAlert(byId("model-alert", HTMLDivElement), error);
  } finally {
    benchmarking = undefined;
    benchmarkButton.disabled = model.univi === undefined;
  }
}

benchmarkButton.addEventListener("click", () => void runBenchmark());
byId("benchmark-copy", HTMLButtonElement).addEventListener(
  "click",
  () => void navigator.clipboard.writeText(benchmarkText.textContent),
);
byId("benchmark-save", HTMLButtonElement).addEventListener("click", () => {
  save("univi-benchmark.md", new Blob([benchmarkText.textContent], { type: "text/markdown" }));
});

addEventListener("paste", (event) => {
  const files = event.clipboardData?.files;
  if (files?.length) chat.composer.show(files);
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
  chat.take(event.dataTransfer?.files ?? []);
});

wireDrawer();
wireSettings(() => chat.settingsChanged());
metrics.draw();
chat.translate();
await model.offer(new URLSearchParams(location.search).get("model"));
await chat.restore();
if (location.hash.startsWith("#question=")) (await import("./link.js")).followLink(chat.composer);
byId("main", HTMLElement).classList.remove("arriving");
await drawSamples();
// Where nothing is heard on this computer, what offers to listen is not fetched either.
const { SpeechRecognition: recognizer } = globalThis as {
  SpeechRecognition?: { available?(asked: object): Promise<string> };
};
recognizer
  ?.available?.({ langs: [navigator.language], processLocally: true })
  .then(async (state) => {
    if (state !== "available") return;
    const { offerDictation } = await import("./dictation.js");
    await offerDictation(chat.composer);
  })
  .catch(() => undefined);
