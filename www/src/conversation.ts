/** The conversation as the page shows it. */
import { make } from "./dom.js";
import { stills } from "./stills.js";
import type { Shown } from "./saw.js";

/** A small picture of something shown. */
export function thumb(shown: Shown): HTMLCanvasElement {
  const canvas = make("canvas", { className: "thumb", width: 144, height: 144 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", nameOf(shown));
  void fill(canvas, shown);
  return canvas;
}

/** What a person calls it. */
export function nameOf(shown: Shown): string {
  return shown.kind === "live" ? "the camera" : shown.file.name;
}

async function fill(canvas: HTMLCanvasElement, shown: Shown): Promise<void> {
  let picture: ImageBitmap | HTMLCanvasElement | undefined;
  if (shown.kind === "live") {
    picture = [...shown.stills.values()].at(-1);
  } else if (shown.kind === "image") {
    picture = await createImageBitmap(shown.file).catch(() => undefined); // The model will say what is wrong with it.
  } else {
    for await (const [, still] of stills(shown.file, [0], new AbortController().signal)) picture = still;
  }
  if (!picture) return;
  const side = Math.min(picture.width, picture.height);
  const [x, y] = [(picture.width - side) / 2, (picture.height - side) / 2];
  canvas.getContext("2d")!.drawImage(picture, x, y, side, side, 0, 0, canvas.width, canvas.height);
}

/** One turn: what was asked, and the answer as it comes. */
export class Turn {
  readonly element = make("li", { className: "turn" });
  readonly #answer = make("p", { className: "answer" });
  readonly #numbers = make("p", { className: "numbers" });

  constructor(question: string, shown: readonly Shown[], onShow: (shown: Shown, button: HTMLButtonElement) => void) {
    const asked = make("div", { className: "asked" });
    if (shown.length > 0) {
      const pictures = shown.map((one) => {
        const button = make("button", { type: "button", title: `See ${nameOf(one)} as the model did` }, thumb(one));
        button.setAttribute("aria-pressed", "false");
        button.addEventListener("click", () => onShow(one, button));
        return button;
      });
      asked.append(make("div", { className: "shown" }, ...pictures));
    }
    asked.append(make("p", { className: "asked-text" }, question));
    this.#answer.setAttribute("aria-busy", "true");
    this.element.append(asked, this.#answer, this.#numbers);
  }

  /** Adds to the answer. */
  say(piece: string): void {
    this.#answer.append(piece);
  }

  /** The answer so far. */
  get text(): string {
    return this.#answer.textContent ?? "";
  }

  /** Says what is being done, or what it took. */
  set numbers(text: string) {
    this.#numbers.textContent = text;
  }

  /** No more will come. */
  end(): void {
    this.#answer.setAttribute("aria-busy", "false");
  }
}
