/**
 * What it takes to convert a checkpoint of a Hub in Chromium: time, bytes, memory, and what a
 * browser costs that is killed on the way. Fails where the files are not the command line's.
 *
 *     univi convert CHECKPOINT --quant q4_0 --out MODEL
 *     node tests/web/hub.bench.mjs CHECKPOINT MODEL [--quant q4_0] [--kill-at 0.5]
 *         [--bytes-per-s N] [--profile FOLDER] [--device webgpu] [--tokens N] [--picture FILE]
 *
 * `test-hub` lies beside `univi`. `--bytes-per-s` limits each connection, of which there is one for
 * a processor. The profile needs room for the model. With `--tokens` it is asked at the end.
 */
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openPage } from "./chromium.mjs";
import { OUTPUT } from "./fixtures.mjs";
import { openHub } from "./hub.mjs";
import { inspect } from "./inspect.mjs";

const { values, positionals } = parseArgs({
  options: {
    quant: { type: "string", default: "q4_0" },
    "kill-at": { type: "string" },
    "bytes-per-s": { type: "string", default: "0" },
    profile: { type: "string" },
    device: { type: "string", default: "webgpu" },
    tokens: { type: "string", default: "0" },
    picture: { type: "string" },
  },
  allowPositionals: true,
});
const [checkpoint, model] = positionals;
if (checkpoint === undefined || model === undefined)
  throw new Error("node tests/web/hub.bench.mjs CHECKPOINT MODEL");
const MIB = 1 << 20;

/** @typedef {import("univi").UniviOptions} UniviOptions */
/** @typedef {Awaited<ReturnType<typeof openPage>>["page"]} Page */

/** @type {{ files: { sha256: string, bytes: number }[] }} */
const { files: made } = JSON.parse(await readFile(join(model, "manifest.json"), "utf8"));
const expected = made.map(({ sha256, bytes }) => `${sha256} ${bytes}`).sort();

const repository = `bench/${basename(checkpoint)}`;
const hub = await openHub({ [repository]: resolve(checkpoint) }, [
  "--bytes-per-s",
  values["bytes-per-s"],
]);
// Its listing is cheap to the real one: it knows the files' SHA-256.
await (await fetch(`${hub.url}/api/models/${repository}/revision/main?blobs=true`)).text();
const options = {
  model: `hf:${repository}`,
  quantization: values.quant,
  hubEndpoint: hub.url,
  device: values.device,
  contextLength: 512,
};
// A package whose workers tell what WebAssembly holds. To have the debugger look for it crashed
// Chromium at times, and to change a script on its way changes how requests to others are made.
const pkg = join(OUTPUT, "hub-bench-pkg/");
await cp(new URL("../../pkg", import.meta.url), pkg, { recursive: true });
const worker = join(pkg, "dist/conversion-worker.js");
await writeFile(worker, `(${keepMemories})();\n${await readFile(worker, "utf8")}`);
/** Of the page: what the browser keeps belongs to it. */
let port = 0;
const profile = values.profile ?? (await mkdtemp(join(tmpdir(), "univi-profile-")));

let opened = await open();
const planned = await opened.inPage(
  ({ Univi }, options) => Univi.availability(/** @type {UniviOptions} */ (options)),
  options,
);
const tensors = planned.conversion?.fetchBytes ?? 0;
console.log(`${repository}: ${gb(tensors)} of tensors, ${gb(planned.bytes ?? 0)} to keep`);
if (values["kill-at"] !== undefined) {
  const sent = await convertUntil(Number(values["kill-at"]) * tensors);
  opened = await open();
  const left = await opened.inPage((univi) => univi.cachedModels());
  if (left.some(({ complete }) => complete)) throw new Error("half a model is taken for a whole");
  console.log(`  killed when ${gb(sent)} had been sent; no model is there`);
}
await convertUntil(Infinity);
const sent = await hub.sentBytes();
console.log(`${gb(sent)} sent in all, ${(sent / tensors).toFixed(4)} times the tensors`);
const kept = await opened.inPage(keptFiles);
if (kept.join() !== expected.join()) throw new Error("the files are not the command line's");
console.log(`${kept.length} files, each with the SHA-256 of the command line's`);
await opened.close();

// The second visit.
opened = await open();
const asked = (await hub.requests()).length;
const seconds = await timed(load());
if ((await hub.requests()).length !== asked) throw new Error("the second visit asked the Hub");
console.log(`second visit: loaded in ${seconds.toFixed(1)} s, nothing asked of the Hub`);
if (values.tokens !== "0") await answer();
await opened.close();
await hub.close();
if (values.profile === undefined) await rm(profile, { recursive: true });

/** Opens the browser of the profile. */
async function open() {
  const { page, url, close } = await openPage({
    folders: { "/": fileURLToPath(new URL("./", import.meta.url)), "/pkg/": pkg },
    serveFlags: ["--connect-src", "http://127.0.0.1:*"],
    profile,
    port,
  });
  port = Number(new URL(url).port);
  page.setDefaultTimeout(0);
  /**
   * Runs `work` in the page, with the package.
   *
   * @template A
   * @template R
   * @param {(univi: typeof import("univi"), argument: A) => Promise<R>} work
   * @param {A} [argument]
   * @returns {Promise<R>}
   */
  const inPage = (work, argument) => {
    const univi = "await import(location.origin + '/pkg/dist/index.js')";
    return page.evaluate(`(async () => (${work})(${univi}, ${JSON.stringify(argument)}))()`);
  };
  return { page, close, inPage };
}

/** Keeps the memory of every instance of WebAssembly of this worker in sight. */
function keepMemories() {
  /** @type {WebAssembly.Memory[]} */
  const memories = [];
  const { instantiate, instantiateStreaming } = WebAssembly;
  const watched =
    (/** @type {Function} */ original) =>
    async (/** @type {unknown[]} */ ...args) => {
      const result = await original.apply(WebAssembly, args);
      memories.push((result.instance ?? result).exports.memory);
      return result;
    };
  Object.assign(WebAssembly, {
    instantiate: watched(instantiate),
    instantiateStreaming: watched(instantiateStreaming),
  });
  Object.assign(globalThis, { memories });
}

/** Loads the model, and leaves it in the page. */
function load() {
  return opened.inPage(async ({ Univi }, options) => {
    const progress = Object.assign(globalThis, { progress: { phase: "" } });
    const univi = await Univi.create({
      .../** @type {UniviOptions} */ (options),
      onProgress: ({ phase }) => (progress.progress = { phase }),
    });
    Object.assign(globalThis, { loaded: univi });
  }, options);
}

/**
 * Converts until so many bytes were sent, where the browser is killed, or to the end -> the bytes.
 *
 * @param {number} bytes
 */
async function convertUntil(bytes) {
  const before = await hub.sentBytes();
  const { page } = opened;
  const watched = await watch(page);
  const began = performance.now();
  let converted = Infinity;
  let isDone = false;
  let failed;
  const loading = load().then(
    () => (isDone = true),
    (error) => {
      failed = error;
      isDone = true;
    },
  );
  let now = before;
  let [wasm, heap, buffers, process_] = [0, 0, 0, 0];
  while (!isDone) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    now = await hub.sentBytes();
    if (now >= bytes) {
      process.kill(await watched.browserProcess(), "SIGKILL");
      await loading;
      await opened.close().catch(() => {});
      break;
    }
    const phase = await page.evaluate(() => Reflect.get(globalThis, "progress")?.phase);
    if (phase !== "convert") {
      if (wasm > 0) converted = Math.min(converted, performance.now() - began);
      continue;
    }
    const memory = await watched.memory().catch(() => undefined);
    if (memory === undefined) continue;
    wasm = Math.max(wasm, memory.wasm);
    heap = Math.max(heap, memory.heap);
    buffers = Math.max(buffers, memory.buffers);
    process_ = Math.max(process_, memory.renderers);
  }
  if (failed && now < bytes) throw failed;
  const took = performance.now() - began;
  console.log(
    `${gb(now - before)} sent, converted in ${(Math.min(converted, took) / 1000).toFixed(1)} s ` +
      `of ${(took / 1000).toFixed(1)} s; at most: WebAssembly ${mib(wasm)}, ` +
      `JavaScript's heaps ${mib(heap)}, its buffers ${mib(buffers)}, ` +
      `the page's process ${mib(process_)}`,
  );
  return now;
}

/** Watches what the page and its workers hold. @param {Page} page */
async function watch(page) {
  const { page: ofPage, workers, ask, processes, residentBytes } = await inspect(page, 5_000);
  return {
    browserProcess: async () => {
      const { id } = (await processes()).find(({ type }) => type === "browser") ?? {};
      if (id === undefined) throw new Error("the browser has no process");
      return id;
    },
    /** In bytes, of page and workers together. */
    memory: async () => {
      const usages = [await ofPage.send("Runtime.getHeapUsage")];
      let wasm = 0;
      for (const worker of workers) {
        usages.push(await ask(worker, "Runtime.getHeapUsage"));
        const expression =
          "(globalThis.memories ?? []).reduce((sum, one) => sum + one.buffer.byteLength, 0)";
        const { result } = await ask(worker, "Runtime.evaluate", { expression });
        wasm += result.value ?? 0;
      }
      const renderers = await residentBytes("renderer");
      const sum = (/** @type {(usage: any) => number} */ of) =>
        usages.reduce((total, usage) => total + of(usage), 0);
      const buffers = sum(({ backingStorageSize }) => backingStorageSize ?? 0);
      return { wasm, heap: sum(({ usedSize }) => usedSize), buffers, renderers };
    },
  };
}

/** Asks the model that is loaded, about a picture where one is named. */
async function answer() {
  const { picture, tokens } = values;
  const image =
    picture === undefined
      ? undefined
      : `data:image/png;base64,${(await readFile(picture)).toString("base64")}`;
  const began = performance.now();
  const text = await opened.inPage(
    async (_, { image, tokens }) => {
      const parts = image === undefined ? ["What is this?"] : [{ image }, "What is this?"];
      const univi = Reflect.get(globalThis, "loaded");
      return univi.ask(parts, { temperature: 0, maxTokens: tokens }).text();
    },
    { image, tokens: Number(tokens) },
  );
  const took = ((performance.now() - began) / 1000).toFixed(1);
  console.log(`answered ${JSON.stringify(text)}, ${tokens} tokens, in ${took} s`);
}

/** The SHA-256 and sizes of the files that the browser keeps. */
async function keptFiles() {
  const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("univi");
  /** @type {string[]} */
  const kept = [];
  for await (const [name, handle] of folder.entries()) {
    const [, sha256] = /^file-([0-9a-f]{64})$/.exec(name) ?? [];
    if (sha256 !== undefined && handle.kind === "file")
      kept.push(`${sha256} ${(await /** @type {any} */ (handle).getFile()).size}`);
  }
  return kept.sort();
}

/** @param {Promise<unknown>} work */
async function timed(work) {
  const began = performance.now();
  await work;
  return (performance.now() - began) / 1000;
}

/** @param {number} bytes */
function gb(bytes) {
  return `${(bytes / 1e9).toFixed(3)} GB`;
}

/** @param {number} bytes */
function mib(bytes) {
  return `${(bytes / MIB).toFixed(1)} MiB`;
}
