/** Pictures and clips of a question, as the page keeps and draws them. */
import type { FrameChoice, Part } from "univi";

import { make } from "./dom.js";
import { frameChoice } from "./settings.js";
import { stills } from "./stills.js";
import { words } from "./words/index.js";

/**
 * A picture, a clip, or what the camera saw, as stills by their time in seconds. `sample` is set
 * for those that the page brings along.
 */
export type Attachment =
  | {
      readonly kind: "image" | "clip";
      readonly file: File;
      readonly sample?: boolean;
      /** The part of a clip that is asked about, until it is asked about. */
      trim?: FrameChoice | undefined;
    }
  | { readonly kind: "live"; readonly stills: ReadonlyMap<number, Blob> };

/** A file as a person picked it, or a sample of the page. */
export function attachmentOf(file: File, sample = false): Attachment {
  return { kind: file.type.startsWith("video/") ? "clip" : "image", file, sample };
}

/** Whether it may show anything, where samples show emoji alone. */
export function isOfTheWorld(attachment: Attachment): boolean {
  return attachment.kind === "live" || !attachment.sample;
}

/** What a person calls it. */
export function nameOf(attachment: Attachment): string {
  return attachment.kind === "live" ? words.theCamera : attachment.file.name || words.theFile;
}

/** The parts of the question; the model has the frames of the camera already. */
export function partsOf(attachments: readonly Attachment[]): Part[] {
  return attachments.flatMap((one): Part[] => {
    if (one.kind === "live") return [];
    const { kind, file, trim } = one;
    return kind === "clip" ? [{ video: file, ...frameChoice(), ...trim }] : [file];
  });
}

/** A small picture of it. */
export function thumb(attachment: Attachment): HTMLCanvasElement {
  const canvas = make("canvas", { className: "thumb", width: 144, height: 144 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", nameOf(attachment));
  void fill(canvas, attachment);
  return canvas;
}

async function fill(canvas: HTMLCanvasElement, attachment: Attachment): Promise<void> {
  const picture = await pictureOf(attachment).catch(() => undefined); // The model will say what is wrong with it.
  if (!picture) return;
  drawSquare(canvas, picture);
  picture.close();
}

async function pictureOf(attachment: Attachment): Promise<ImageBitmap | undefined> {
  if (attachment.kind === "image") return createImageBitmap(attachment.file);
  if (attachment.kind === "live") {
    const last = [...attachment.stills.values()].at(-1);
    return last && createImageBitmap(last);
  }
  for await (const [, still] of stills(attachment.file, [0], new AbortController().signal))
    return still;
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
