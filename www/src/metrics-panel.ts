/**
 * The panel of metrics: what the last answer took, what the model takes of the machine, and how
 * speed changed over time.
 */
import type { ContextUsage, MemoryUsage, Univi, Usage } from "univi";

import { byId, make } from "./dom.js";
import { number, size } from "./format.js";
import { words } from "./words/index.js";

/** Answers that the plot reaches back to. */
const MOST_POINTS = 50;
/** The plot's own units. */
const WIDTH = 320;
const HEIGHT = 72;
const EDGE = 4;

const panel = byId("metrics", HTMLDivElement);

/** What is known after an answer. */
interface Point {
  readonly adapter: string;
  readonly usage: Usage;
  readonly memory: MemoryUsage;
  readonly context: ContextUsage | undefined;
}

/** Gathers and shows the metrics of all answers. */
export class MetricsPanel {
  #points: Point[] = [];

  /** Takes up those of an answer. */
  async add(univi: Univi, usage: Usage, context: ContextUsage | undefined): Promise<void> {
    const memory = await univi.memory().catch(() => undefined);
    if (!memory) return; // The model has gone meanwhile.
    this.#points = [...this.#points, { adapter: univi.info.adapter, usage, memory, context }].slice(
      -MOST_POINTS,
    );
    this.draw();
  }

  /** Draws them in the language that is spoken now. */
  draw(): void {
    const last = this.#points.at(-1);
    if (!last) {
      panel.replaceChildren(make("p", { className: "small muted" }, words.noMetrics));
      return;
    }
    const { adapter, usage, memory, context } = last;
    const seconds = ({ usage }: Point) => usage.timeToFirstTokenMs / 1000;
    const rows: [string, string][] = [
      [words.adapter, adapter],
      [words.firstToken, words.seconds(number(seconds(last), 2))],
      [words.speed, words.tokensPerSecond(number(usage.tokensPerSecond, 1))],
      [words.visualTokens, number(usage.visualTokens)],
      ...(context
        ? [[words.context, words.contextOf(context.used, context.capacity)] as [string, string]]
        : []),
      ...(memory.gpuBytes > 0
        ? [[words.memoryGpu, size(memory.gpuBytes)] as [string, string]]
        : []),
      [words.memoryWasm, size(memory.wasmBytes)],
    ];
    const list = make(
      "dl",
      { className: "facts" },
      ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
    );
    const first = plot(words.firstToken, this.#points.map(seconds), (value) =>
      words.seconds(number(value, 2)),
    );
    // An answer of one token has no speed.
    const speeds = this.#points
      .map(({ usage }) => usage.tokensPerSecond)
      .filter((speed) => speed > 0);
    const speed = plot(words.speed, speeds, (value) => words.tokensPerSecond(number(value, 1)));
    panel.replaceChildren(list, first, speed);
  }
}

/** A line through the values, answer by answer, from 0 to the largest. */
function plot(
  name: string,
  values: readonly number[],
  format: (value: number) => string,
): HTMLElement {
  const most = Math.max(...values, Number.MIN_VALUE);
  const x = (index: number) => EDGE + (index * (WIDTH - 2 * EDGE)) / Math.max(values.length - 1, 1);
  const y = (value: number) => HEIGHT - EDGE - (value * (HEIGHT - 2 * EDGE)) / most;
  const svg = element("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    "aria-label": words.plot(name, values.map(format).join(", ")),
  });
  svg.append(element("line", { x1: 0, x2: WIDTH, y1: y(0), y2: y(0), class: "axis" }));
  svg.append(
    element("polyline", {
      points: values.map((value, index) => `${x(index)},${y(value)}`).join(" "),
    }),
  );
  for (const [index, value] of values.entries())
    svg.append(element("circle", { cx: x(index), cy: y(value), r: 2.5 }));
  const caption = make(
    "figcaption",
    { className: "small muted" },
    `${name}, 0 – ${values.length > 0 ? format(most) : ""}`,
  );
  return make("figure", { className: "plot" }, svg, caption);
}

function element(name: string, attributes: Record<string, string | number>): SVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, String(value));
  return svg;
}
