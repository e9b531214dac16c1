/**
 * The panel "What the model saw": an image's tokens, a clip's events and the tokens of its frames,
 * or what the camera saw last.
 */
import type { TokenMap } from "univi";
import {
  clock,
  type EventsWords,
  hue,
  type TokensWords,
  type UniviTokensElement,
} from "univi/elements";

import "./styles/token-map-panel.css";
import { button, byId, make, save } from "./dom.js";
import { number } from "./format.js";
import { drawSquare, nameOf, type Attachment } from "./attachment.js";
import { budgetSlider, type Merger } from "./merging.js";
import { stills } from "./stills.js";
import { words } from "./words/index.js";
import { mergingWords } from "./words/merging.js";

/** What other models read of one picture (arXiv 2304.08485, 2310.03744). */
const LLAVA_TOKENS = 256;
const LLAVA_15_TOKENS = 576;
/** Sides of pictures in the list of events, in pixels. */
const THUMB_PX = 112;

/** How what is drawn is taken away. */
const DOWNLOADS = [
  ["PNG", "image/png"],
  ["SVG", "image/svg+xml"],
] as const;

const panel = byId("token-map", HTMLDivElement);
const empty = byId("token-map-empty", HTMLDivElement);
let drawing = new AbortController();
/** Draws what is drawn once more. */
let again: (() => Promise<void>) | undefined;

type Picture = ImageBitmap | HTMLCanvasElement;

/** Pictures of frames by their times, each with its number. */
type Pictures = (
  timesSeconds: readonly number[],
) => AsyncIterable<readonly [frame: number, picture: Picture]>;

/**
 * Draws what the model saw of `attachment`, in place of what is drawn; of a clip that can be
 * played, from `atSeconds` on.
 */
export async function drawTokenMap(
  attachment: Attachment,
  tokenMap: TokenMap,
  merger: Merger,
  atSeconds = 0,
): Promise<void> {
  const signal = begin(() => drawTokenMap(attachment, tokenMap, merger));
  if (attachment.kind === "live") {
    const name = words.theCamera;
    await drawClip(kept(attachment.stills), tokenMap, signal, { name });
  } else if (tokenMap.kind === "image") {
    const picture = await createImageBitmap(attachment.file);
    if (signal.aborted) return;
    const view = tokensView(picture, tokenMap);
    const stages = make("div", {}, controls(view, tokenMap, nameOf(attachment)));
    const bars = make("div", {}, budget(tokenMap, 1));
    const slider = budgetSlider(attachment, tokenMap, merger, signal, (merged) => {
      view.tokenMap = merged;
      stages.replaceChildren(controls(view, merged, nameOf(attachment)));
      bars.replaceChildren(budget(merged, 1));
    });
    panel.replaceChildren(stages, view, ...(slider ? [slider] : []), bars);
  } else {
    const player = attachment.kind === "clip" ? playerOf(attachment.file, signal) : undefined;
    const pictures: Pictures = (times) => stills(attachment.file, times, signal);
    const name = nameOf(attachment);
    const change = (merged: TokenMap) => drawTokenMap(attachment, merged, merger, atSeconds);
    const slider = (draw: (merged: TokenMap) => void) =>
      budgetSlider(attachment, tokenMap, merger, signal, draw);
    await drawClip(pictures, tokenMap, signal, { name, player, atSeconds, slider, change });
  }
}

/** Draws what the camera saw in the window that goes on, with the stills that there are. */
export async function drawLive(
  pictures: ReadonlyMap<number, HTMLCanvasElement>,
  tokenMap: TokenMap,
): Promise<void> {
  const signal = begin(() => drawLive(pictures, tokenMap));
  await drawClip(kept(pictures), tokenMap, signal, {
    name: words.theCamera,
    above: make("p", { className: "small muted" }, words.rolling),
  });
}

/** Draws what is drawn in the language that is spoken now. */
export async function redrawTokenMap(): Promise<void> {
  await again?.();
}

/** Nothing is drawn. */
export function clearTokenMap(): void {
  drawing.abort();
  again = undefined;
  panel.replaceChildren();
  panel.hidden = true;
  empty.hidden = false;
}

function begin(redraw: () => Promise<void>): AbortSignal {
  drawing.abort();
  again = redraw;
  drawing = new AbortController();
  empty.hidden = true;
  panel.hidden = false;
  return drawing.signal;
}

function kept(pictures: ReadonlyMap<number, HTMLCanvasElement | Blob>): Pictures {
  return async function* (times) {
    for (const [frame, time] of times.entries()) {
      const picture = pictures.get(time);
      if (picture)
        yield [
          frame,
          picture instanceof Blob ? await createImageBitmap(picture) : picture,
        ] as const;
    }
  };
}

async function drawClip(
  picturesAt: Pictures,
  tokenMap: TokenMap,
  signal: AbortSignal,
  {
    name,
    above,
    player,
    atSeconds = 0,
    slider: sliderOf,
    change,
  }: {
    /** What it is called in files. */
    readonly name: string;
    /** What stands above all. */
    readonly above?: Node;
    /** Plays the clip. */
    readonly player?: HTMLVideoElement | undefined;
    /** Where it begins to. */
    readonly atSeconds?: number;
    /** Makes the slider that merges anew, and calls what it is given with what comes of it. */
    readonly slider?: (draw: (merged: TokenMap) => void) => HTMLElement | undefined;
    /** Draws what has other events, or frames. */
    readonly change?: (merged: TokenMap) => Promise<void>;
  },
): Promise<void> {
  const [first] = tokenMap.frames;
  if (!first) return;
  const blank = make("canvas", { width: first.width, height: first.height });
  const view = tokensView(blank, tokenMap);
  const eventOf = tokenMap.frames.map((_, frame) =>
    tokenMap.events.findIndex((event) => event.frames.includes(frame)),
  );
  const pictures: (Picture | undefined)[] = tokenMap.frames.map(() => undefined);
  const chosen: HTMLElement[][] = tokenMap.frames.map(() => []);
  const times = tokenMap.frames.map((frame) => frame.timeSeconds);
  let current = 0;

  /** Shows a frame, where the clip is or where it is sent to. */
  const show = (frame: number) => {
    current = frame;
    for (const [index, buttons] of chosen.entries()) {
      for (const button of buttons) button.setAttribute("aria-current", String(index === frame));
    }
    for (const [index, element] of [...events.children].entries())
      element.classList.toggle("current", index === eventOf[frame]);
    timeline.frame = frame;
    view.picture = pictures[frame] ?? blank;
    view.frame = frame;
  };
  const choose = (frame: number) => {
    show(frame);
    seek(player, times[frame]!);
  };
  player?.addEventListener("timeupdate", () => {
    const shown = times.findLastIndex((time) => time <= player.currentTime + 0.001);
    if (shown >= 0 && shown !== current) show(shown);
  });
  const frameButton = (frame: number, ...content: Node[]) => {
    const name = words.frameAt(clock(tokenMap.frames[frame]!.timeSeconds), eventOf[frame]! + 1);
    const button = make("button", { type: "button", title: name }, ...content);
    button.setAttribute("aria-label", name);
    button.addEventListener("click", () => choose(frame));
    chosen[frame]!.push(button);
    return button;
  };

  const speech: EventsWords = { label: words.timeline, frame: words.frameAt };
  const timeline = make("univi-events", { className: "timeline", tokenMap, words: speech });
  timeline.addEventListener("framechange", () => choose(timeline.frame));

  const thumbs = tokenMap.frames.map(() => make("canvas", { width: THUMB_PX, height: THUMB_PX }));
  const events = make("div", { className: "events" });
  const counts: HTMLElement[] = [];
  for (const [index, event] of tokenMap.events.entries()) {
    const frames = make(
      "div",
      { className: "frames" },
      ...event.frames.map((frame) => frameButton(frame, thumbs[frame]!)),
    );
    const heading = make(
      "button",
      { type: "button", className: "event-heading" },
      words.event(index + 1, spans(event.frames, times)),
    );
    heading.addEventListener("click", () => choose(event.frames[0]!));
    const count = make("p", { className: "small muted" });
    count.textContent = words.eventTokens(event.frames.length, event.tokens);
    counts.push(count);
    const element = make("section", { className: "event" }, make("h3", {}, heading), count, frames);
    element.style.setProperty("--hue", hue(index));
    events.append(element);
  }
  // Of what the camera saw, which patch became part of which token is not read back.
  const drawsTokens = tokenMap.events[0]?.stages.length;
  const stages = make("div", {}, ...(drawsTokens ? [controls(view, tokenMap, name)] : []));
  const bars = make("div", {}, budget(tokenMap, tokenMap.frames.length));
  const slider = sliderOf?.((merged) => {
    if (!sameEvents(merged, tokenMap)) {
      void change?.(merged);
      return;
    }
    view.tokenMap = merged;
    view.frame = current;
    stages.replaceChildren(controls(view, merged, name));
    bars.replaceChildren(budget(merged, merged.frames.length));
    for (const [index, { frames, tokens }] of merged.events.entries())
      counts[index]!.textContent = words.eventTokens(frames.length, tokens);
  });
  panel.replaceChildren(
    ...[above, player].filter((node) => node !== undefined),
    timeline,
    ...(drawsTokens ? [stages, view] : []),
    ...(slider ? [slider] : []),
    bars,
    events,
  );
  show(
    Math.max(
      times.findLastIndex((time) => time <= atSeconds),
      0,
    ),
  );
  if (atSeconds > 0) seek(player, atSeconds);

  for await (const [frame, picture] of picturesAt(times)) {
    if (signal.aborted) return;
    pictures[frame] = picture;
    drawSquare(thumbs[frame]!, picture);
    if (frame === current) show(frame);
  }
}

/** Whether both have the same frames, in the same events. */
function sameEvents(one: TokenMap, other: TokenMap): boolean {
  const key = ({ events, frames }: TokenMap) =>
    JSON.stringify([
      events.map((event) => event.frames),
      frames.map(({ timeSeconds }) => timeSeconds),
    ]);
  return key(one) === key(other);
}

/** A player of the clip, until `signal` says that something else is drawn. */
function playerOf(file: File, signal: AbortSignal): HTMLVideoElement {
  const url = URL.createObjectURL(file);
  const player = make("video", { className: "player", controls: true, playsInline: true });
  player.setAttribute("aria-label", words.clipPlayer);
  player.addEventListener("error", () => player.remove()); // The frames that were decoded remain.
  player.src = url;
  signal.addEventListener("abort", () => {
    player.removeAttribute("src");
    player.load();
    URL.revokeObjectURL(url);
  });
  return player;
}

/** Shows the moment in the player. A little more than the time is within its frame for certain. */
function seek(player: HTMLVideoElement | undefined, seconds: number): void {
  if (player) player.currentTime = seconds + 0.0005;
}

function tokensView(picture: Picture, tokenMap: TokenMap): UniviTokensElement {
  const cut = (cropped: boolean) => (cropped ? ` ${words.cropped}` : "");
  const speech: TokensWords = {
    label: (patches, tokens, cropped) =>
      `${words.merged(patches, tokens)}${cut(cropped)} ${words.arrowKeys}`,
    caption: (patches, tokens, cropped) =>
      `${words.merged(patches, tokens)}${cut(cropped)} ${words.pointAtToken}`,
    token: words.litToken,
  };
  return make("univi-tokens", { className: "tokens", picture, tokenMap, words: speech });
}

/** The stages of merging, by a slider, and the picture of them to take away. */
function controls(view: UniviTokensElement, tokenMap: TokenMap, name: string): HTMLElement {
  const stages = tokenMap.events[0]?.stages ?? [];
  const slider = make("input", {
    type: "range",
    min: "1",
    max: String(stages.length),
    step: "1",
    className: "stage",
  });
  slider.value = String(view.stage + 1);
  slider.setAttribute("aria-label", words.stage);
  const text = make("output", { className: "small" });
  const choose = () => {
    view.stage = slider.valueAsNumber - 1;
    text.textContent = words.stageOf(
      slider.valueAsNumber,
      stages[view.stage]!.tokens,
      tokenMap.patchesPerSide ** 2,
    );
    slider.setAttribute("aria-valuetext", text.textContent);
  };
  slider.addEventListener("input", choose);
  choose();
  const download = ([format, type]: readonly [string, "image/png" | "image/svg+xml"]) =>
    button(
      "button quiet small",
      format,
      () => {
        const file = `${name.replace(/\.\w+$/, "")}-tokens.${format.toLowerCase()}`;
        void view.toBlob(type).then((blob) => save(file, blob));
      },
      mergingWords().download(format),
    );
  const downloads = make("span", { className: "downloads" }, ...DOWNLOADS.map(download));
  return make("div", { className: "token-map-controls" }, slider, text, downloads);
}

/**
 * Tokens that the language model read, beside what other ways of showing as many frames would have
 * cost.
 */
function budget(tokenMap: TokenMap, frames: number): HTMLElement {
  const rows: [string, number, string][] = [
    ["Chat-UniVi", tokenMap.tokens, "bar ours"],
    [words.allPatches, tokenMap.patchesPerSide ** 2 * frames, "bar"],
    ["LLaVA", LLAVA_TOKENS * frames, "bar"],
    ["LLaVA-1.5", LLAVA_15_TOKENS * frames, "bar"],
  ];
  const most = Math.max(...rows.map(([, count]) => count));
  const element = make("div", { className: "budget" });
  for (const [name, count, className] of rows) {
    const bar = make("div", { className });
    bar.style.width = `${(100 * count) / most}%`;
    element.append(
      make("span", {}, name),
      bar,
      make("span", { className: "count" }, words.tokens(number(count))),
    );
  }
  return element;
}

/** An event's times: its frames need not be neighbours. */
function spans(frames: readonly number[], times: readonly number[]): string {
  const runs: [first: number, last: number][] = [];
  for (const frame of frames) {
    const run = runs.at(-1);
    if (run && run[1] + 1 === frame) run[1] = frame;
    else runs.push([frame, frame]);
  }
  return runs
    .map(([first, last]) =>
      first === last ? clock(times[first]!) : words.span(clock(times[first]!), clock(times[last]!)),
    )
    .join(", ");
}
