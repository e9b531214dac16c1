/** `<univi-tokens>`: merged tokens drawn over the picture, stage by stage. */
import type { TokenMap, TokenMapFrame, MergeStage } from "../types.js";
import { UniviError } from "../error.js";
import { BaseElement, shadowOf } from "./base.js";
import { tokensSvg } from "./tokens-svg.js";

/** Returns a colour for token or event `index`; neighbours in number are far apart in hue. */
export function hue(index: number): string {
  return `oklch(0.7 0.15 ${(index * 137.508 + 25) % 360})`;
}

/** A frame and its patches' tokens. */
interface FrameTokens {
  readonly frame: TokenMapFrame;
  readonly patchesPerSide: number;
  /** As in the frame's event, but with this frame's patches alone. */
  readonly stages: readonly MergeStage[];
}

/** What became of the patches of frame `index`. */
function frameTokens(tokenMap: TokenMap, index: number): FrameTokens | undefined {
  const { patchesPerSide } = tokenMap;
  const frame = tokenMap.frames[index];
  if (!frame) return undefined;
  const event = tokenMap.events.find(({ frames }) => frames.includes(index));
  const position = event?.frames.indexOf(index) ?? 0;
  const patches = patchesPerSide ** 2;
  const own = ({ tokens, groups }: MergeStage) => ({
    tokens,
    groups: groups.subarray(position * patches, (position + 1) * patches),
  });
  return { frame, patchesPerSide, stages: event?.stages.map(own) ?? [] };
}

const STYLE = `
  :host { display: block; }
  figure { margin: 0; }
  canvas { display: block; width: 100%; touch-action: manipulation; border-radius: var(--univi-radius, 6px); }
  figcaption { margin-top: 0.5em; min-height: 3.1em; font-size: 0.8125em; }
`;

/** What `<univi-tokens>` says, for other languages than English. */
export interface TokensWords {
  /** What the picture is, for those who do not see it. */
  readonly label: (patches: number, tokens: number, cropped: boolean) => string;
  /** What stands below it. */
  readonly caption: (patches: number, tokens: number, cropped: boolean) => string;
  /** The same while a token is lit: the first is 1. */
  readonly token: (token: number, of: number, patches: number) => string;
}

const CROPPED = " The dimmed edges are not seen.";
const ENGLISH: TokensWords = {
  label: (patches, tokens, cropped) =>
    `The picture, its ${patches} patches merged into ${tokens} tokens.${cropped ? CROPPED : ""} Arrow keys walk over the patches.`,
  caption: (patches, tokens, cropped) =>
    `${patches} patches became ${tokens} tokens.${cropped ? CROPPED : ""} Point at a token to see its patches.`,
  token: (token, of, patches) =>
    `Token ${token} of ${of} stands for ${patches} ${patches === 1 ? "patch" : "patches"}.`,
};

/**
 * A picture with the outlines of its merged tokens: `<univi-tokens>`. A token lights up under the
 * pointer, or under the arrow keys.
 *
 * The picture is drawn whole; what lies outside of the square that the model looks at is dimmed.
 * Style it by `::part(canvas)` and `::part(caption)`.
 *
 * @example
 * ```ts
 * import "univi/elements";
 * const view = document.createElement("univi-tokens");
 * view.picture = await createImageBitmap(photo);
 * view.tokenMap = (await answer.tokenMaps())[0];
 * view.stage = 1;
 * document.body.append(view);
 * ```
 */
export class UniviTokensElement extends BaseElement {
  readonly #canvas = document.createElement("canvas");
  readonly #caption = document.createElement("figcaption");
  #picture: CanvasImageSource | undefined;
  #tokenMap: TokenMap | undefined;
  #frame = 0;
  #stage = 0;
  #words = ENGLISH;
  #lit: number | undefined; // A patch of the token that is lit.

  constructor() {
    super();
    const figure = document.createElement("figure");
    this.#canvas.part.add("canvas");
    this.#canvas.tabIndex = 0;
    this.#canvas.setAttribute("role", "img");
    this.#caption.part.add("caption");
    this.#caption.setAttribute("aria-live", "polite");
    figure.append(this.#canvas, this.#caption);
    shadowOf(this, STYLE).append(figure);
    this.#canvas.addEventListener("pointermove", (event) => this.#light(this.#patchAt(event)));
    this.#canvas.addEventListener("pointerdown", (event) => this.#light(this.#patchAt(event)));
    this.#canvas.addEventListener("pointerleave", () => this.#light(undefined));
    this.#canvas.addEventListener("blur", () => this.#light(undefined));
    this.#canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  /** The picture, or the frame of the clip, as it was shown. */
  get picture(): CanvasImageSource | undefined {
    return this.#picture;
  }
  set picture(picture: CanvasImageSource | undefined) {
    this.#picture = picture;
    this.#draw();
  }

  /** What the model saw of it. */
  get tokenMap(): TokenMap | undefined {
    return this.#tokenMap;
  }
  set tokenMap(tokenMap: TokenMap | undefined) {
    [this.#tokenMap, this.#lit] = [tokenMap, undefined];
    this.#draw();
  }

  /** Which frame of a clip is drawn; 0 for a picture. */
  get frame(): number {
    return this.#frame;
  }
  set frame(frame: number) {
    [this.#frame, this.#lit] = [frame, undefined];
    this.#draw();
  }

  /** The stage of merging that is drawn: 0 is the finest. */
  get stage(): number {
    return this.#stage;
  }
  set stage(stage: number) {
    this.#stage = stage;
    this.#draw();
  }

  /** What it says; English by default. */
  get words(): TokensWords {
    return this.#words;
  }
  set words(words: TokensWords) {
    this.#words = words;
    this.#draw();
  }

  /**
   * Returns the picture with its tokens as a file, as for a talk: as PNG, or as SVG with a shape of
   * each token.
   *
   * @throws DOMException `SecurityError` where the picture is of another site that does not allow
   * it.
   */
  async toBlob(type: "image/png" | "image/svg+xml" = "image/png"): Promise<Blob> {
    const [lit, tokens] = [this.#lit, this.#tokens];
    const stage = tokens?.stages[this.#stage];
    if (!tokens || !stage) throw new UniviError("bad-request", "there is no token map to draw");
    if (type === "image/svg+xml") {
      const { frame, patchesPerSide } = tokens;
      const [picture, title] = [this.#picture, this.#words.token];
      const drawn = tokensSvg({ picture, frame, patchesPerSide, stage, colour: hue, title });
      return new Blob([drawn], { type });
    }
    this.#light(undefined);
    const drawn = new Promise<Blob | null>((resolve) => this.#canvas.toBlob(resolve, type));
    this.#light(lit);
    const blob = await drawn;
    if (!blob) throw new UniviError("internal", "the browser does not write the picture");
    return blob;
  }

  get #tokens(): FrameTokens | undefined {
    return this.#tokenMap && frameTokens(this.#tokenMap, this.#frame);
  }

  #light(patch: number | undefined): void {
    if (patch === this.#lit) return;
    this.#lit = patch;
    this.#draw();
  }

  #patchAt(event: PointerEvent): number | undefined {
    const tokens = this.#tokens;
    if (!tokens) return undefined;
    const {
      frame: { crop, width },
      patchesPerSide,
    } = tokens;
    const scale = width / this.#canvas.clientWidth;
    const column = Math.floor(((event.offsetX * scale - crop.x) / crop.side) * patchesPerSide);
    const row = Math.floor(((event.offsetY * scale - crop.y) / crop.side) * patchesPerSide);
    const inside = column >= 0 && row >= 0 && column < patchesPerSide && row < patchesPerSide;
    return inside ? row * patchesPerSide + column : undefined;
  }

  #key(event: KeyboardEvent): void {
    const n = this.#tokenMap?.patchesPerSide ?? 1;
    const at = this.#lit ?? 0;
    const [column, row] = [at % n, Math.floor(at / n)];
    const to: Record<string, [number, number]> = {
      ArrowLeft: [column - 1, row],
      ArrowRight: [column + 1, row],
      ArrowUp: [column, row - 1],
      ArrowDown: [column, row + 1],
    };
    const target = to[event.key];
    if (!target) return;
    event.preventDefault();
    const [x, y] = target.map((value) => Math.min(Math.max(value, 0), n - 1)) as [number, number];
    this.#light(this.#lit === undefined ? 0 : y * n + x);
  }

  #draw(): void {
    const tokens = this.#tokens;
    const stage = tokens?.stages[this.#stage];
    if (!tokens || !stage) return;
    const {
      frame: { width, height, crop },
      patchesPerSide: n,
    } = tokens;
    const scale =
      Math.min(1, 1024 / Math.max(width, height)) * Math.max(1, 512 / Math.max(width, height));
    const canvas = this.#canvas;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const context = canvas.getContext("2d")!;
    context.imageSmoothingQuality = "high";
    if (this.#picture) context.drawImage(this.#picture, 0, 0, canvas.width, canvas.height);

    const side = crop.side * scale;
    const [left, top] = [crop.x * scale, crop.y * scale];
    context.fillStyle = "rgb(0 0 0 / 0.6)";
    context.beginPath();
    context.rect(0, 0, canvas.width, canvas.height);
    context.rect(left, top, side, side);
    context.fill("evenodd");

    const patch = side / n;
    const group = (column: number, row: number) => stage.groups[row * n + column];
    const lit = this.#lit === undefined ? undefined : stage.groups[this.#lit];
    for (let row = 0; row < n; row++) {
      for (let column = 0; column < n; column++) {
        const id = group(column, row)!;
        context.globalAlpha = lit === undefined ? 0.34 : id === lit ? 0.12 : 0.72;
        context.fillStyle = lit === undefined || id === lit ? hue(id) : "black";
        context.fillRect(left + column * patch, top + row * patch, patch, patch);
      }
    }
    context.globalAlpha = 1;

    // Outlines where neighbouring patches belong to different tokens.
    const outlines = new Path2D();
    for (let row = 0; row < n; row++) {
      for (let column = 0; column < n; column++) {
        const [x, y] = [left + column * patch, top + row * patch];
        if (column + 1 < n && group(column, row) !== group(column + 1, row)) {
          outlines.moveTo(x + patch, y);
          outlines.lineTo(x + patch, y + patch);
        }
        if (row + 1 < n && group(column, row) !== group(column, row + 1)) {
          outlines.moveTo(x, y + patch);
          outlines.lineTo(x + patch, y + patch);
        }
      }
    }
    context.lineCap = "square";
    for (const [colour, thickness] of [
      ["rgb(0 0 0 / 0.55)", 3.5],
      ["white", 1.5],
    ] as const) {
      context.strokeStyle = colour;
      context.lineWidth = thickness;
      context.stroke(outlines);
    }
    context.strokeStyle = "white";
    context.strokeRect(left, top, side, side);

    this.#describe(tokens.frame, stage, lit);
  }

  #describe(
    { width, height, crop }: TokenMapFrame,
    { tokens, groups }: MergeStage,
    lit: number | undefined,
  ): void {
    const cropped = crop.side < Math.max(width, height);
    const { label, caption, token } = this.#words;
    this.#canvas.setAttribute("aria-label", label(groups.length, tokens, cropped));
    if (lit === undefined) {
      this.#caption.textContent = caption(groups.length, tokens, cropped);
    } else {
      const members = groups.reduce((count, id) => count + (id === lit ? 1 : 0), 0);
      this.#caption.textContent = token(lit + 1, tokens, members);
    }
  }
}
