/**
 * What an answer of univi-nano about a picture takes in Chromium, on SwiftShader and on the CPU:
 * from the question to its last word, the picture looked at anew each time; and the longest task of
 * the page's own thread meanwhile, loading included.
 *
 *     node tests/web/nano.bench.mjs
 */
import { fileURLToPath } from "node:url";
import { openPage } from "./chromium.mjs";
import { MODELS } from "./fixtures.mjs";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const folders = {
  "/": at("./"),
  "/pkg/": at("../../pkg/"),
  "/models/": `${MODELS}/`,
  "/samples/": at("../../www/public/samples/"),
};
const opened = await openPage({ folders });
for (const device of /** @type {const} */ (["webgpu", "cpu"])) {
  const times = await opened.page.evaluate(async (device) => {
    const { Univi } = await import(`${location.origin}/pkg/dist/index.js`);
    /** @type {number[]} */
    const tasks = [];
    const observer = new PerformanceObserver((list) =>
      tasks.push(...list.getEntries().map(({ duration }) => duration)),
    );
    observer.observe({ type: "longtask" });
    const start = performance.now();
    const univi = await Univi.create({
      model: "models/univi-nano/manifest.json",
      device,
      cache: "none",
    });
    const load = performance.now() - start;
    const picture = await (await fetch("samples/train-zebra.png")).blob();
    const times = [];
    for (let i = 0; i < 9; i++) {
      const asked = performance.now();
      await univi.ask([picture, "List everything from left to right."], { temperature: 0 }).text();
      times.push(performance.now() - asked);
    }
    univi.dispose();
    observer.disconnect();
    // What is shorter than 50 ms is not told.
    return {
      longest: Math.max(0, ...tasks),
      load,
      first: times[0] ?? 0,
      median: times.sort((a, b) => a - b)[4] ?? 0,
    };
  }, device);
  const [load, first, median] = [times.load, times.first, times.median].map(
    (ms) => `${(ms / 1000).toFixed(2)} s`,
  );
  const longest =
    times.longest === 0
      ? "no task of the page above 50 ms"
      : `longest task of the page ${Math.round(times.longest)} ms`;
  console.log(
    `${device}: loaded in ${load}; first answer ${first}, median of nine ${median}; ${longest}`,
  );
}
await opened.close();
