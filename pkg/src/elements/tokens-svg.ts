/** A picture with its merged tokens as SVG: a shape for each token. */
import type { MergeStage, TokenMapFrame } from "../types.js";

/** What is drawn. */
export interface TokensDrawing {
  readonly picture: CanvasImageSource | undefined;
  readonly frame: TokenMapFrame;
  readonly patchesPerSide: number;
  readonly stage: MergeStage;
  /** The colour of a token. */
  readonly colour: (token: number) => string;
  /** What a token is, for those who point at it: the first is 1. */
  readonly title: (token: number, of: number, patches: number) => string;
}

/** The picture in it has at most so many pixels along its longer side. */
const PICTURE_PX = 1024;

/** Returns the document. */
export function tokensSvg(drawing: TokensDrawing): string {
  const {
    picture,
    frame: { width, height, crop },
    patchesPerSide: n,
    stage: { tokens, groups },
  } = drawing;
  const patch = crop.side / n;
  const at = (index: number, from: number) => Number((from + index * patch).toFixed(2));
  /** Patches of a row that lie beside each other are one rectangle. */
  const runs: string[][] = Array.from({ length: tokens }, () => []);
  const outlines: string[] = [];
  for (let row = 0; row < n; row++) {
    for (let column = 0; column < n; ) {
      const token = groups[row * n + column]!;
      let end = column + 1;
      while (end < n && groups[row * n + end] === token) end += 1;
      const [left, right] = [at(column, crop.x), at(end, crop.x)];
      const [top, bottom] = [at(row, crop.y), at(row + 1, crop.y)];
      runs[token]!.push(`M${left} ${top}H${right}V${bottom}H${left}z`);
      if (end < n) outlines.push(`M${right} ${top}V${bottom}`);
      column = end;
    }
    for (let column = 0; row + 1 < n && column < n; column++)
      if (groups[row * n + column] !== groups[(row + 1) * n + column])
        outlines.push(`M${at(column, crop.x)} ${at(row + 1, crop.y)}H${at(column + 1, crop.x)}`);
  }
  const sizes = new Map<number, number>();
  for (const token of groups) sizes.set(token, (sizes.get(token) ?? 0) + 1);
  const shapes = runs.map((run, token) => {
    const title = escaped(drawing.title(token + 1, tokens, sizes.get(token) ?? 0));
    return run.length === 0
      ? ""
      : `<path d="${run.join("")}" fill="${plain(drawing.colour(token))}"><title>${title}</title></path>\n`;
  });
  const line = Math.max(width, height) / 512;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">
<image href="${dataUrl(picture, width, height)}" width="${width}" height="${height}"/>
<path d="M0 0H${width}V${height}H0zM${crop.x} ${crop.y}v${crop.side}h${crop.side}v-${crop.side}z" fill="#000" fill-opacity=".6" fill-rule="evenodd"/>
<g fill-opacity=".34">
${shapes.join("")}</g>
<g fill="none" stroke-linecap="square"><path d="${outlines.join("")}" stroke="#000" stroke-opacity=".55" stroke-width="${(3.5 * line).toFixed(2)}"/>
<path d="${outlines.join("")}" stroke="#fff" stroke-width="${(1.5 * line).toFixed(2)}"/></g>
</svg>
`;
}

function dataUrl(picture: CanvasImageSource | undefined, width: number, height: number): string {
  const canvas = document.createElement("canvas");
  const scale = Math.min(1, PICTURE_PX / Math.max(width, height));
  [canvas.width, canvas.height] = [width, height].map((side) => Math.round(side * scale)) as [
    number,
    number,
  ];
  if (picture) canvas.getContext("2d")!.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL();
}

/** A colour as programs that draw SVG know it, which is not true of newer notations. */
function plain(colour: string): string {
  const context = Object.assign(document.createElement("canvas"), {
    width: 1,
    height: 1,
  }).getContext("2d")!;
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  const [red = 0, green = 0, blue = 0] = context.getImageData(0, 0, 1, 1).data;
  return `#${[red, green, blue].map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
