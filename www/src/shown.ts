/** What was shown to the model, as the page keeps and draws it. */
import type { Part } from "univi";

import { make } from "./dom.js";
import { frameChoice } from "./settings.js";
import { stills } from "./stills.js";
import { words } from "./words/index.js";

/** A picture, a clip, or what the camera saw, as stills by their time in seconds. */
export type Shown =
  | { readonly kind: "image" | "clip"; readonly file: File }
  | { readonly kind: "live"; readonly stills: ReadonlyMap<number, Blob> };

/** A file as a person picked it. */
export function shownFile(file: File): Shown {
  return { kind: file.type.startsWith("video/") ? "clip" : "image", file };
}

/** What a person calls it. */
export function nameOf(shown: Shown): string {
  return shown.kind === "live" ? words.theCamera : shown.file.name || words.theFile;
}

/** As the model is asked about it; what the camera saw is known to it already. */
export function partsOf(shown: readonly Shown[]): Part[] {
  return shown.flatMap((one): Part[] => {
    if (one.kind === "live") return [];
    return one.kind === "clip" ? [{ video: one.file, ...frameChoice() }] : [one.file];
  });
}

/** A small picture of it. */
export function thumb(shown: Shown): HTMLCanvasElement {
  const canvas = make("canvas", { className: "thumb", width: 144, height: 144 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", nameOf(shown));
  void fill(canvas, shown);
  return canvas;
}

async function fill(canvas: HTMLCanvasElement, shown: Shown): Promise<void> {
  const picture = await pictureOf(shown).catch(() => undefined); // The model will say what is wrong with it.
  if (!picture) return;
  drawSquare(canvas, picture);
  picture.close();
}

async function pictureOf(shown: Shown): Promise<ImageBitmap | undefined> {
  if (shown.kind === "image") return createImageBitmap(shown.file);
  if (shown.kind === "live") {
    const last = [...shown.stills.values()].at(-1);
    return last && createImageBitmap(last);
  }
  for await (const [, still] of stills(shown.file, [0], new AbortController().signal)) return still;
  return undefined;
}

/** The square in the middle of a picture, over all of a canvas. */
export function drawSquare(
  canvas: HTMLCanvasElement,
  picture: ImageBitmap | HTMLCanvasElement,
): void {
  const side = Math.min(picture.width, picture.height);
  const [x, y] = [(picture.width - side) / 2, (picture.height - side) / 2];
  canvas.getContext("2d")!.drawImage(picture, x, y, side, side, 0, 0, canvas.width, canvas.height);
}
