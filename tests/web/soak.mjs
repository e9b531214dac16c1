/**
 * Counts what stays behind: many frames of a live camera, many questions, many models created and
 * disposed of, in Chromium with univi-nano. Prints memory at the start, after each tenth and at the
 * end of each, and fails where it grows after the first tenth.
 *
 *     npm run soak --workspace univi-tests-web -- --frames 1000 --questions 200 --models 20
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openPage } from "./chromium.mjs";
import { MODELS } from "./fixtures.mjs";
import { inspect } from "./inspect.mjs";

const { values } = parseArgs({
  options: {
    frames: { type: "string", default: "10000" },
    questions: { type: "string", default: "2000" },
    models: { type: "string", default: "200" },
    device: { type: "string", default: "cpu" },
  },
});
const [frames, questions, models] = /** @type {[number, number, number]} */ (
  [values.frames, values.questions, values.models].map(Number)
);
const { device } = values;
if (![frames, questions, models].every((count) => Number.isInteger(count) && count >= 10))
  throw new Error("--frames, --questions and --models take numbers from 10");

const MIB = 1 << 20;
/**
 * How much more there may be at the end than after the first tenth. Until then caches fill, code is
 * compiled, and the window of the camera fills. A leak of one frame's features is 290 MB after
 * 10,000 frames, one of a kilobyte for each is 10 MB.
 */
const MARGIN_MIB = { wasm: 4, heap: 4, gpu: 2, processes: 96 };

/** @typedef {{ wasm: number, heap: number, gpu: number, processes: number }} Memory In MiB. */

const at = (/** @type {string} */ path) => fileURLToPath(new URL(path, import.meta.url));
const opened = await openPage({
  folders: {
    "/": at("./"),
    "/pkg/": at("../../pkg/"),
    "/models/": `${MODELS}/`,
    "/samples/": at("../../www/public/samples/"),
  },
  flags: ["--autoplay-policy=no-user-gesture-required"],
});
const { page } = opened;
const { page: ofPage, workers, ask, residentBytes } = await inspect(page, 30_000);

/** Bytes of JavaScript's heaps after a collection, the page's and its workers'. */
async function heapBytes() {
  await ofPage.send("HeapProfiler.collectGarbage");
  let bytes = (await ofPage.send("Runtime.getHeapUsage")).usedSize;
  if (workers.size === 0) throw new Error("the worker that runs the model is not found");
  for (const worker of workers) {
    await ask(worker, "HeapProfiler.collectGarbage");
    bytes += (await ask(worker, "Runtime.getHeapUsage")).usedSize;
  }
  return bytes;
}

/** @param {string} what @param {{ wasmBytes: number, gpuBytes: number }} held */
async function sample(what, { wasmBytes, gpuBytes }) {
  const [heap, processes] = [await heapBytes(), await residentBytes("renderer", "GPU")];
  /** @type {Memory} */
  const memory = {
    wasm: wasmBytes / MIB,
    heap: heap / MIB,
    gpu: gpuBytes / MIB,
    processes: processes / MIB,
  };
  const shown = Object.entries(memory).map(([name, mib]) => mib.toFixed(1).padStart(name.length));
  console.log(`${what.padEnd(20)}  ${shown.map((text) => text.padStart(9)).join("  ")}`);
  return memory;
}

/** What grew beyond its margin. @type {string[]} */
const grown = [];

/**
 * Runs `count` of something in tenths and compares the first with the last.
 *
 * @param {string} what
 * @param {number} count
 * @param {(until: number) => Promise<{ wasmBytes: number, gpuBytes: number }>} reach Goes on until
 * so many are done, and returns what is held then.
 */
async function soak(what, count, reach) {
  const began = performance.now();
  console.log(
    `\n${`MiB, ${what}`.padEnd(20)}  ${["wasm", "heap", "gpu", "processes"].map((name) => name.padStart(9)).join("  ")}`,
  );
  await sample("0", await reach(0));
  /** @type {Memory | undefined} */
  let first;
  for (let tenth = 1; tenth <= 10; tenth++) {
    const until = Math.round((count * tenth) / 10);
    const memory = await sample(String(until), await reach(until));
    if (first === undefined) first = memory;
    else if (tenth === 10)
      for (const name of /** @type {(keyof Memory)[]} */ (Object.keys(memory)))
        if (memory[name] > first[name] + MARGIN_MIB[name])
          grown.push(
            `${what}: ${name} grew from ${first[name].toFixed(1)} to ${memory[name].toFixed(1)} MiB, by more than ${MARGIN_MIB[name]}`,
          );
  }
  console.log(`${count} ${what} in ${((performance.now() - began) / 1000).toFixed(0)} s`);
}

await page.evaluate(async (device) => {
  const { Univi } = await import(`${location.origin}/pkg/dist/index.js`);
  const create = () =>
    Univi.create({ model: "models/univi-nano/manifest.json", device, cache: "none" });
  const univi = await create();
  const picture = await (await fetch("samples/train-zebra.png")).blob();
  const QUESTIONS = ["Can you see a train?", "What is on the left?", "Hello"];
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [96, 96];
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  let drawn = 0;
  const draw = () => {
    context.fillStyle = `hsl(${drawn++ % 360} 80% 50%)`;
    context.fillRect(drawn % 60, (drawn * 7) % 60, 36, 36);
  };
  draw();
  /** @type {{ live?: any, drawing?: ReturnType<typeof setInterval>, failed?: unknown }} */
  const camera = {};
  let asked = 0;
  let made = 0;
  const pause = () => new Promise((resolve) => setTimeout(resolve, 20));
  Object.assign(globalThis, {
    reachFrames: async (/** @type {number} */ until) => {
      if (!camera.live) {
        camera.drawing = setInterval(draw, 15);
        camera.live = univi.watch(canvas.captureStream(60), {
          framesPerSecond: 60,
          windowSeconds: 2,
          onError: (/** @type {unknown} */ error) => (camera.failed = error),
        });
      }
      while (camera.live.stats.framesEncoded < until && !camera.failed) await pause();
      if (camera.failed) throw camera.failed;
      if (until > 0) await camera.live.ask("Can you see a train?", { maxTokens: 2 }).text();
      return univi.memory();
    },
    endFrames: async () => {
      clearInterval(camera.drawing);
      await camera.live[Symbol.asyncDispose]();
    },
    reachQuestions: async (/** @type {number} */ until) => {
      for (; asked < until; asked++) {
        const question = QUESTIONS[asked % QUESTIONS.length];
        const parts = asked % 3 === 2 ? [question] : [picture, question];
        await univi.ask(parts, { maxTokens: 4, temperature: 0 }).text();
      }
      return univi.memory();
    },
    reachModels: async (/** @type {number} */ until) => {
      for (; made < until; made++) {
        const other = await create();
        await other.ask(["Hello"], { maxTokens: 1 }).text();
        other.dispose();
      }
      return univi.memory();
    },
  });
}, device);

/** @param {string} name @returns {(until: number) => Promise<any>} */
const inPage = (name) => (until) =>
  page.evaluate(({ name, until }) => /** @type {any} */ (globalThis)[name](until), { name, until });

console.log(`univi-nano in Chromium ${page.context().browser()?.version()}, device ${device}`);
await soak("live frames", frames, inPage("reachFrames"));
await inPage("endFrames")(0);
await soak("questions", questions, inPage("reachQuestions"));
await soak("models", models, inPage("reachModels"));
await opened.close();
for (const line of grown) console.error(line);
if (grown.length > 0) process.exitCode = 1;
else console.log("\nflat");
