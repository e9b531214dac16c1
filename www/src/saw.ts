/** The panel "What the model saw": an image's tokens, or a clip's events and the tokens of its frames. */
import type { Seen } from "univi";
import { clock, hue, type UniviTokensElement } from "univi/elements";

import { make } from "./dom.js";
import { stills } from "./stills.js";

/** What was shown to the model, as the page can draw it. */
export type Shown =
  | { readonly kind: "image" | "clip"; readonly file: File }
  /** What the camera saw, by its time in seconds. */
  | { readonly kind: "live"; readonly stills: ReadonlyMap<number, HTMLCanvasElement> };

/** Draws `seen` of `shown` into `root`. Stops silently where `signal` says that something else is shown by now. */
export async function drawSeen(root: HTMLElement, shown: Shown, seen: Seen, signal: AbortSignal): Promise<void> {
  if (shown.kind === "live") {
    await drawClip(root, kept(shown.stills), seen, signal);
  } else if (seen.kind === "image") {
    const picture = await createImageBitmap(shown.file);
    if (signal.aborted) return;
    const view = make("univi-tokens", { className: "tokens", picture, seen });
    root.replaceChildren(controls(view, seen), view, budget(seen.tokens, 1));
  } else {
    await drawClip(root, (times) => stills(shown.file, times, signal), seen, signal);
  }
}

type Picture = ImageBitmap | HTMLCanvasElement;

/** Pictures of frames by their times, each with its number. */
type Pictures = (timesSeconds: readonly number[]) => AsyncIterable<readonly [frame: number, picture: Picture]>;

function kept(pictures: ReadonlyMap<number, HTMLCanvasElement>): Pictures {
  return async function* (times) {
    for (const [frame, time] of times.entries()) {
      const picture = pictures.get(time);
      if (picture) yield [frame, picture] as const;
    }
  };
}

async function drawClip(root: HTMLElement, picturesAt: Pictures, seen: Seen, signal: AbortSignal): Promise<void> {
  const [first] = seen.frames;
  if (!first) return;
  const blank = make("canvas", { width: first.width, height: first.height });
  const view = make("univi-tokens", { className: "tokens", picture: blank, seen });
  const eventOf = seen.frames.map((_, frame) => seen.events.findIndex((event) => event.frames.includes(frame)));
  const pictures: (CanvasImageSource | undefined)[] = seen.frames.map(() => undefined);
  const chosen: HTMLElement[][] = seen.frames.map(() => []);
  let current = 0;

  const choose = (frame: number) => {
    current = frame;
    for (const [index, buttons] of chosen.entries()) {
      for (const button of buttons) button.setAttribute("aria-current", String(index === frame));
    }
    timeline.frame = frame;
    view.picture = pictures[frame] ?? blank;
    view.frame = frame;
  };
  const frameButton = (frame: number, ...content: Node[]) => {
    const button = make("button", { type: "button", title: `Frame at ${clock(seen.frames[frame]!.timeSeconds)}` }, ...content);
    button.setAttribute("aria-label", `Frame at ${clock(seen.frames[frame]!.timeSeconds)}, event ${eventOf[frame]! + 1}`);
    button.addEventListener("click", () => choose(frame));
    chosen[frame]!.push(button);
    return button;
  };

  const timeline = make("univi-events", { className: "timeline", seen });
  timeline.addEventListener("framechange", () => choose(timeline.frame));

  const thumbs = seen.frames.map(() => make("canvas", { width: 112, height: 112 }));
  const events = make("div", { className: "events" });
  for (const [index, event] of seen.events.entries()) {
    const frames = make("div", { className: "frames" }, ...event.frames.map((frame) => frameButton(frame, thumbs[frame]!)));
    const count = `${event.frames.length} ${event.frames.length === 1 ? "frame" : "frames"}`;
    const element = make(
      "section",
      { className: "event" },
      make("h3", {}, `Event ${index + 1}: ${spans(event.frames, seen.frames.map((frame) => frame.timeSeconds))}`),
      make("p", { className: "small muted" }, `${count} merged into ${event.tokens} tokens`),
      frames,
    );
    element.style.setProperty("--hue", hue(index));
    events.append(element);
  }
  // Of what the camera saw, which patch became part of which token is not read back.
  const tokens = seen.events[0]?.stages.length ? [controls(view, seen), view] : [];
  root.replaceChildren(timeline, ...tokens, budget(seen.tokens, seen.frames.length), events);
  choose(0);

  const times = seen.frames.map((frame) => frame.timeSeconds);
  for await (const [frame, picture] of picturesAt(times)) {
    if (signal.aborted) return;
    pictures[frame] = picture;
    const side = Math.min(picture.width, picture.height);
    const thumb = thumbs[frame]!;
    thumb
      .getContext("2d")!
      .drawImage(picture, (picture.width - side) / 2, (picture.height - side) / 2, side, side, 0, 0, thumb.width, thumb.height);
    if (frame === current) choose(frame);
  }
}

function controls(view: UniviTokensElement, seen: Seen): HTMLElement {
  const stages = make("div", { className: "stages" });
  stages.setAttribute("role", "radiogroup");
  stages.setAttribute("aria-label", "Stage of merging");
  for (const [index, stage] of (seen.events[0]?.stages ?? []).entries()) {
    const input = make("input", { type: "radio", name: "stage", value: String(index), checked: index === 0 });
    input.addEventListener("change", () => (view.stage = index));
    stages.append(make("label", {}, input, `${stage.tokens} tokens`));
  }
  const patches = seen.patchesPerSide ** 2;
  return make("div", { className: "saw-controls" }, stages, make("span", { className: "small muted" }, `of ${patches} patches`));
}

/** Tokens that the language model read, beside what other ways of showing as many frames would have cost. */
function budget(tokens: number, frames: number): HTMLElement {
  const rows: [string, number, string][] = [
    ["Chat-UniVi", tokens, "bar ours"],
    ["LLaVA", 256 * frames, "bar"],
    ["LLaVA-1.5", 576 * frames, "bar"],
  ];
  const most = Math.max(...rows.map(([, count]) => count));
  const element = make("div", { className: "budget" });
  for (const [name, count, className] of rows) {
    const bar = make("div", { className });
    bar.style.width = `${(100 * count) / most}%`;
    element.append(make("span", {}, name), bar, make("span", { className: "count" }, `${count.toLocaleString("en")} tokens`));
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
    .map(([first, last]) => (first === last ? clock(times[first]!) : `${clock(times[first]!)} to ${clock(times[last]!)}`))
    .join(", ");
}
