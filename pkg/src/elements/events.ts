/** `<univi-events>`: a clip's frames on a timeline, coloured by event. */
import type { TokenMap } from "../types.js";
import { BaseElement, shadowOf } from "./base.js";
import { hue } from "./tokens.js";

const STYLE = `
  :host { display: block; }
  div { display: flex; gap: 2px; }
  button { flex: 1 1 0; min-width: 4px; height: 28px; padding: 0; border: 0; border-radius: 4px; cursor: pointer; background: var(--hue); forced-color-adjust: none; }
  button[aria-current="true"] { outline: 2px solid currentColor; outline-offset: 1px; }
  button:focus-visible { outline: 3px solid Highlight; outline-offset: 1px; }
`;

/** What `<univi-events>` says, for other languages than English. */
export interface EventsWords {
  /** What the timeline is, for those who do not see it. */
  readonly label: string;
  /** What a frame is: when it is shown, such as "1:02.5", and the number of its event, from 1. */
  readonly frame: (time: string, event: number) => string;
}

const ENGLISH: EventsWords = {
  label: "Frames in order of time, coloured by event",
  frame: (time, event) => `Frame at ${time}, event ${event}`,
};

/**
 * The frames of a clip in order of time, coloured by event: `<univi-events>`. Choosing one, by
 * pointer or keyboard, fires `framechange`; {@link UniviEventsElement.frame} tells which. Style it
 * by `::part(frame)`.
 *
 * @example
 * ```ts
 * import "univi/elements";
 * const timeline = document.createElement("univi-events");
 * timeline.tokenMap = (await answer.tokenMaps())[0];
 * timeline.addEventListener("framechange", () => (view.frame = timeline.frame));
 * ```
 */
export class UniviEventsElement extends BaseElement {
  readonly #frames = document.createElement("div");
  #tokenMap: TokenMap | undefined;
  #frame = 0;
  #words = ENGLISH;

  constructor() {
    super();
    this.#frames.setAttribute("role", "group");
    this.#frames.setAttribute("aria-label", ENGLISH.label);
    shadowOf(this, STYLE).append(this.#frames);
    this.#frames.addEventListener("keydown", (event) => this.#key(event));
  }

  /** What the model saw of the clip. */
  get tokenMap(): TokenMap | undefined {
    return this.#tokenMap;
  }
  set tokenMap(tokenMap: TokenMap | undefined) {
    [this.#tokenMap, this.#frame] = [tokenMap, 0];
    this.#draw();
  }

  /** What it says; English by default. */
  get words(): EventsWords {
    return this.#words;
  }
  set words(words: EventsWords) {
    this.#words = words;
    this.#draw();
  }

  /** The frame that is chosen. */
  get frame(): number {
    return this.#frame;
  }
  set frame(frame: number) {
    this.#frame = frame;
    this.#mark();
  }

  #draw(): void {
    const tokenMap = this.#tokenMap;
    this.#frames.setAttribute("aria-label", this.#words.label);
    const buttons = (tokenMap?.frames ?? []).map(({ timeSeconds }, index) => {
      const event = tokenMap!.events.findIndex(({ frames }) => frames.includes(index));
      const button = document.createElement("button");
      button.type = "button";
      button.part.add("frame");
      button.title = this.#words.frame(clock(timeSeconds), event + 1);
      button.setAttribute("aria-label", button.title);
      button.style.setProperty("--hue", hue(event));
      button.addEventListener("click", () => this.#choose(index));
      return button;
    });
    this.#frames.replaceChildren(...buttons);
    this.#mark();
  }

  #choose(frame: number): void {
    this.frame = frame;
    this.dispatchEvent(new Event("framechange"));
  }

  #key(event: KeyboardEvent): void {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const frame = this.#frame + (step ?? 0);
    if (step === undefined || frame < 0 || frame >= this.#frames.children.length) return;
    event.preventDefault();
    this.#choose(frame);
    (this.#frames.children[frame] as HTMLElement).focus();
  }

  #mark(): void {
    for (const [index, button] of [...this.#frames.children].entries())
      button.setAttribute("aria-current", String(index === this.#frame));
  }
}

/** Returns seconds as a clock shows them, such as "1:02.5". */
export function clock(seconds: number): string {
  const tenths = Math.round(10 * seconds);
  const [minutes, rest] = [Math.floor(tenths / 600), (tenths % 600) / 10];
  const whole = tenths % 10 === 0;
  return `${minutes}:${rest.toFixed(whole ? 0 : 1).padStart(whole ? 2 : 4, "0")}`;
}
