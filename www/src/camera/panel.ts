/**
 * What the page shows of a camera or the screen: the picture, figures, and captions, newest first.
 */
import { announce, button, byId, make, save } from "../dom.js";
import { openDrawer } from "../drawer.js";
import { number } from "../format.js";
import { cameraWords } from "../words/camera.js";
import { words } from "../words/index.js";
import { asText, asWebVtt, type Caption } from "./caption-file.js";
import type { Captions, CaptionQuestion, CaptionState } from "./captions.js";
import "../styles/camera.css";

/** Captions that are shown; the files have all. */
const SHOWN = 50;
/** The picture beside a caption, in pixels. */
const PICTURE_PX = 96;
/** Screen readers hear of captions at most so often. */
const ANNOUNCED_MS = 8000;
/** From one question to the next, in seconds; 0 is after every answer. */
const PACES = [0, 5, 10, 30, 60];

/** Sets the words of what stands there, in the language of the page. */
const said: (() => void)[] = [];

/** Makes an element whose text is one of the words. */
function worded<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  text: () => string,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
): HTMLElementTagNameMap[K] {
  const element = make(tag, properties);
  said.push(() => (element.textContent = text()));
  return element;
}

/** Has screen readers call an element by one of the words. */
function labelled<E extends HTMLElement>(element: E, label: () => string): E {
  said.push(() => element.setAttribute("aria-label", label()));
  return element;
}

export const panel = byId("camera", HTMLElement);
export const video = make("video", { id: "camera-view", muted: true, playsInline: true });
export const choice = labelled(
  make("select", { id: "camera-choice", hidden: true }),
  () => cameraWords().whichCamera,
);
export const status = make("p", { id: "camera-status", className: "small muted" });
export const note = make("p", { className: "small muted" });
export const close = worded("button", () => cameraWords().turnOff, {
  type: "button",
  className: "button quiet small",
});

const form = labelled(make("form", { className: "caption-form" }), () => cameraWords().captions);
const question = make("input", { type: "text", required: true, autocomplete: "off" });
const pace = make("select");
const toggle = make("button", { type: "button", className: "button small" });
const caveat = make("p", { className: "caveat warns", hidden: true });
const stateText = make("span");
const figures = make("span");
const coming = make("p", { className: "caption-coming" });
const list = labelled(
  make("ol", { className: "caption-list", tabIndex: 0 }),
  () => cameraWords().list,
);
const earlier = make("p", { id: "caption-earlier", className: "small muted", hidden: true });
const files = make("p", { className: "actions" });

function field(label: () => string, className: string, control: HTMLElement): HTMLLabelElement {
  return make("label", { className: `field ${className}` }, worded("span", label), control);
}

form.append(
  field(() => cameraWords().question, "grow", question),
  field(() => cameraWords().pace, "", pace),
  toggle,
);
const made = make(
  "div",
  { className: "captions" },
  caveat,
  make("p", { className: "small muted caption-state" }, stateText, " ", figures),
  coming,
  list,
  earlier,
  files,
);
const side = make("div", { className: "camera-side" }, choice, status, note, close);
panel.append(video, side, form, made);

/** The captions that are shown, oldest first, with what holds their times. */
const shown = new Map<Caption, HTMLParagraphElement>();
let state: CaptionState = "stopped";
/** Captions that there are, with those that are shown no more. */
let kept = 0;
let announcedAt = Number.NEGATIVE_INFINITY;
let announcing: ReturnType<typeof setTimeout> | undefined;

/** Says everything in the language of the page. */
export function translate(): void {
  for (const say of said) say();
  panel.setAttribute("aria-label", cameraWords().camera);
  const options = PACES.map((seconds) => {
    const { everyAnswer, everySeconds } = cameraWords();
    const text = seconds === 0 ? everyAnswer : everySeconds(seconds);
    return make(
      "option",
      { value: String(seconds), selected: String(seconds) === pace.value },
      text,
    );
  });
  pace.replaceChildren(...options);
  showState(state);
  showCount(kept);
  for (const caption of shown.keys()) showExtended(caption);
}

/** Returns what is to be asked, and how often. */
export function captionQuestion(): CaptionQuestion {
  return { text: asked, everyMs: Number(pace.value) * 1000 };
}
let asked = "";
question.addEventListener("input", () => (asked = question.value.trim() || asked));

/** Proposes a question, where the person has written none. */
export function propose(text: string): void {
  if (question.value.trim() !== "") return;
  question.value = text;
  asked = text;
}

/** Shows what to know of a model before its captions are believed. */
export function showCaveat(text: string | undefined): void {
  const help = button("button quiet small", words.photoModels, () =>
    openDrawer(byId("photo-models-heading", HTMLHeadingElement)),
  );
  caveat.replaceChildren(make("span", {}, text ?? ""), help);
  caveat.hidden = text === undefined;
}

/**
 * Wires the form to what begins captions, and the files to what has them; `offerUndo` says what was
 * done, and how to undo it.
 */
export function wire(
  captions: Captions,
  start: () => void,
  offerUndo: (done: string, undo: () => void) => void,
): void {
  // Enter begins; while captions run it leaves them alone, as the question may be another by now.
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!captions.running) start();
  });
  toggle.addEventListener("click", () => {
    if (captions.running) captions.stop();
    else form.requestSubmit();
  });
  const write = (name: string, type: string, written: (all: readonly Caption[]) => string) => () =>
    save(name, new Blob([written(captions.all)], { type }));
  const tool = (text: () => string, act: () => void) => {
    const element = button("button quiet small", "", act);
    said.push(() => (element.textContent = text()));
    return element;
  };
  files.replaceChildren(
    tool(() => cameraWords().saveVtt, write("captions.vtt", "text/vtt", asWebVtt)),
    tool(() => cameraWords().saveText, write("captions.txt", "text/plain", asText)),
    tool(
      () => cameraWords().clear,
      () => {
        const [items, held] = [[...list.children], [...shown]];
        const cleared = captions.clear();
        list.replaceChildren();
        shown.clear();
        showCount(captions.all.length);
        offerUndo(cameraWords().cleared, () => {
          captions.restore(cleared);
          list.append(...items);
          const newer = [...shown];
          shown.clear();
          for (const [caption, times] of [...held, ...newer]) shown.set(caption, times);
          showCount(captions.all.length);
        });
        toggle.focus();
      },
    ),
  );
  translate();
}

/** Shows why captions ask or do not. */
export function showState(next: CaptionState): void {
  state = next;
  const said = cameraWords();
  const runs = next !== "stopped";
  panel.classList.toggle("captioning", runs);
  toggle.textContent = runs ? said.stop : said.start;
  toggle.classList.toggle("primary", !runs);
  stateText.textContent = next === "stopped" && figures.textContent === "" ? "" : said[next];
}

/** Shows how many answers there were, and how many frames. */
export function showFigures(
  { answers, behindMs }: Captions["figures"],
  { framesEncoded, framesDropped }: { framesEncoded: number; framesDropped: number },
): void {
  const { figures: ofAnswers, frames } = cameraWords();
  const parts = [frames(framesEncoded, framesDropped)];
  if (answers > 0) parts.unshift(ofAnswers(answers, number(behindMs / 1000, 1)));
  figures.textContent = parts.join(" · ");
}

/** Shows the answer that comes, where it says something new. */
export function showComing(text: string | undefined): void {
  coming.textContent = text ?? "";
}

/** Shows a new caption, above those before. */
export function showAdded(caption: Caption, picture: HTMLCanvasElement, count: number): void {
  const still = make("canvas", { width: PICTURE_PX, height: PICTURE_PX });
  still.getContext("2d")!.drawImage(picture, 0, 0, PICTURE_PX, PICTURE_PX);
  still.setAttribute("aria-hidden", "true");
  const times = make("p", { className: "small muted" });
  const item = make("li", {}, still, make("div", {}, times, make("p", {}, caption.text)));
  list.prepend(item);
  shown.set(caption, times);
  showExtended(caption);
  showCount(count);
  announceSoon(caption.text);
}

/** Shows until when a caption holds. */
export function showExtended(caption: Caption): void {
  const time = (at: number) => make("time", { dateTime: new Date(at).toISOString() }, clock(at));
  const [from, to] = [time(caption.from), time(caption.to)];
  const moment = from.textContent === to.textContent;
  shown.get(caption)?.replaceChildren(from, ...(moment ? [] : [" – ", to]));
}

/** Shows how many there are, and the newest of them. */
function showCount(count: number): void {
  kept = count;
  for (const caption of shown.keys()) {
    if (shown.size <= SHOWN) break;
    shown.delete(caption);
    list.lastElementChild?.remove();
  }
  const left = count - shown.size;
  earlier.hidden = left <= 0;
  earlier.textContent = cameraWords().earlier(left);
  list.hidden = files.hidden = count === 0;
}

/** Tells screen readers the newest caption, and not each of many. */
function announceSoon(text: string): void {
  clearTimeout(announcing);
  announcing = setTimeout(
    () => {
      announcedAt = performance.now();
      announce(cameraWords().caption(text));
    },
    Math.max(0, announcedAt + ANNOUNCED_MS - performance.now()),
  );
}

/** "10:30:05" */
function clock(time: number): string {
  return new Intl.DateTimeFormat(document.documentElement.lang, { timeStyle: "medium" }).format(
    time,
  );
}
