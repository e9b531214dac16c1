/**
 * How long converting a checkpoint of a billion parameters takes in a tab, and what memory:
 * `node conversion.bench.mjs [--layers N] [--quant TYPE]`. A line for each is printed.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import puppeteer from "puppeteer-core";
import { launchOptions } from "./chromium.mjs";
import { OUTPUT } from "./fixtures.mjs";
import { openHub } from "./hub.mjs";
import { randomCheckpoint } from "./random-checkpoint.mjs";
import { serve } from "./server.mjs";

const { values } = parseArgs({
  options: {
    layers: { type: "string", default: "24" },
    quant: { type: "string", default: "q4_0" },
  },
});
/** As in TinyLlama, with a few more layers. */
const SIZES = { width: 2048, layers: Number(values.layers), ffn: 5632 };
const SAMPLE_MS = 1000;

const checkpoint = await randomCheckpoint("random-1b", SIZES);
const hub = await openHub({ "tests/random-1b": checkpoint });
const folder = (/** @type {string} */ path) => new URL(path, import.meta.url).pathname;
const folders = { "/": folder("./"), "/pkg/": folder("../../pkg/") };
const server = await serve(folders, ["--connect-src", "http://127.0.0.1:*"]);
const profile = join(OUTPUT, "conversion-profile");
await rm(profile, { recursive: true, force: true });
const browser = await puppeteer.launch({
  browser: "chrome",
  ...launchOptions([]),
  userDataDir: profile,
});
const page = await browser.newPage();
await page.goto(`${server.url}empty.html`);

/**
 * What a thread holds: objects of JavaScript with their buffers, and memories of WebAssembly.
 *
 * @param {import("puppeteer-core").CDPSession} thread
 */
async function memoryOf(thread) {
  const { result } = await thread.send("Runtime.evaluate", {
    expression: "WebAssembly.Memory.prototype",
  });
  const { objects } = await thread.send("Runtime.queryObjects", {
    prototypeObjectId: result.objectId ?? "",
  });
  const { result: bytes } = await thread.send("Runtime.callFunctionOn", {
    objectId: objects.objectId ?? "",
    functionDeclaration: "function () { return this.reduce((n, m) => n + m.buffer.byteLength, 0) }",
  });
  const usage = await thread.send("Runtime.getHeapUsage");
  const { usedSize, backingStorageSize = 0 } = /** @type {any} */ (usage);
  // A WebAssembly memory is the backing store of its buffer.
  return { wasm: bytes.value, js: usedSize + Math.max(0, backingStorageSize - bytes.value) };
}

const most = { wasm: 0, js: 0, workers: 0 };
let converting = true;
async function sample() {
  const main = await page.createCDPSession();
  while (converting) {
    const workers = page.workers();
    const threads = [main, ...workers.map((worker) => worker.client)];
    const found = await Promise.all(
      threads.map((thread) => memoryOf(thread).catch(() => ({ wasm: 0, js: 0 }))),
    );
    most.wasm = Math.max(
      most.wasm,
      found.reduce((sum, { wasm }) => sum + wasm, 0),
    );
    most.js = Math.max(
      most.js,
      found.reduce((sum, { js }) => sum + js, 0),
    );
    most.workers = Math.max(most.workers, workers.length);
    await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
  }
}

const sampling = sample();
const took = await page.evaluate(
  async ({ hubEndpoint, quantization }) => {
    const { Univi } = await import(`${location.origin}/pkg/dist/index.js`);
    const began = performance.now();
    let converted = began;
    let fetched = 0;
    const model = "hf:tests/random-1b";
    const univi = await Univi.create({
      model,
      quantization,
      hubEndpoint,
      device: "cpu",
      contextLength: 256,
      onProgress: (/** @type {import("univi").LoadProgress} */ { phase, loaded }) => {
        if (phase !== "convert") return;
        converted = performance.now();
        fetched = loaded;
      },
    }).catch((/** @type {Error} */ error) => error.message);
    const { bytes = 0 } = univi.info ?? {};
    return { seconds: (converted - began) / 1000, fetched, bytes, error: String(univi) };
  },
  { hubEndpoint: hub.url, quantization: values.quant },
);
converting = false;
await sampling;
const megabytes = (/** @type {number} */ bytes) => `${(bytes / 1e6).toFixed(0)} MB`;
console.log(`result: ${megabytes(took.bytes)} ${took.error}`);
console.log(`fetched: ${megabytes(took.fetched)} in ${took.seconds.toFixed(1)} s`);
console.log(`sent by the Hub: ${megabytes(await hub.sentBytes())}`);
console.log(`workers: ${most.workers}`);
console.log(`WebAssembly: ${(most.wasm / 2 ** 20).toFixed(1)} MiB in all`);
console.log(`JavaScript: ${(most.js / 2 ** 20).toFixed(1)} MiB in all`);
await browser.close();
await server.close();
await hub.close();
await rm(profile, { recursive: true, force: true });
await rm(checkpoint, { recursive: true, force: true });
