/**
 * What loading a model takes: time beside a fetch of the same bytes to nowhere, memory, and what a
 * second visit needs.
 *
 *     univi synth --preset 7b --quant q4_0 --out models/random-7b
 *     node tests/web/load.bench.mjs models/random-7b [--throttle 100MB] [--only dawn|chromium]
 *
 * Ratios of one run are what counts: both times share the machine's mood.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { openPage } from "./chromium.mjs";
import { serve } from "./server.mjs";

const { values, positionals } = parseArgs({
  options: { throttle: { type: "string" }, only: { type: "string" } },
  allowPositionals: true,
});
const folder = resolve(positionals[0] ?? "models/random-7b");
/** @type {{ name: string, files: { path: string, bytes: number }[] }} */
const manifest = JSON.parse(await readFile(join(folder, "manifest.json"), "utf8"));
const total = manifest.files.reduce((sum, { bytes }) => sum + bytes, 0);
const server = await serve(
  { "/": folder },
  values.throttle === undefined ? [] : ["--throttle", values.throttle],
);
const url = `${server.url}manifest.json`;
const paths = manifest.files.map(({ path }) => new URL(path, url).href);

console.log(
  `${manifest.name}: ${mib(total)} in ${paths.length} files, ${values.throttle ?? "no"} throttle`,
);
if (values.only !== "dawn") await inChromium();
// Afterwards: what Dawn needs to be found makes Playwright take everything for a window.
if (values.only !== "chromium") await onDawn();
await server.close();

async function onDawn() {
  await import("../../pkg/dist/node.js"); // Brings Dawn where the device is asked for.
  const { inference } = await import("../../pkg/dist/module.js");
  const { load } = await import("../../pkg/dist/load.js");
  const { bindings: module, memory } = await inference.instantiate((error) => {
    throw error;
  });
  const nowhere = () => Promise.reject(new Error("no address is asked for"));
  const base = await seconds(() => fetchToNowhere(paths));
  report("Dawn, fetch to nowhere", base);
  let heap = 0;
  const sampling = setInterval(() => {
    const { heapUsed, external, arrayBuffers } = process.memoryUsage();
    // WebAssembly's memory is told with what is external, and counted by itself.
    heap = Math.max(heap, heapUsed + Math.max(external, arrayBuffers) - memory.buffer.byteLength);
  }, 20);
  for (const verifyUpload of [false, true]) {
    /** @type {Awaited<ReturnType<typeof load>> | undefined} */
    let loaded;
    const took = await seconds(async () => {
      const context = { signal: new AbortController().signal, emit: () => {} };
      loaded = await load(
        module,
        { module, allowedOrigins: undefined },
        nowhere,
        {
          source: { kind: "url", url, resolves: false },
          device: "webgpu",
          cache: "none",
          contextLength: 512,
          verifyUpload,
        },
        context,
      );
    });
    loaded?.engine.dispose();
    report(`Dawn, load${verifyUpload ? ", every 7th matrix read back and equal" : ""}`, took, base);
  }
  clearInterval(sampling);
  console.log(
    `  peak of WebAssembly memory ${mib(memory.buffer.byteLength)}, of the JavaScript heap ${mib(heap)}`,
  );
}

async function inChromium() {
  const profile = await mkdtemp(join(tmpdir(), "univi-profile-"));
  const opened = await openPage({ profile });
  const { page } = opened;
  page.setDefaultTimeout(0);
  await page.evaluate(async () =>
    Object.assign(globalThis, { univi: await import(`${location.origin}/pkg/dist/index.js`) }),
  );
  await page.evaluate(() => Reflect.get(globalThis, "univi").clearCache());
  // In a page of its own, so that what it leaves behind is nobody's burden.
  const other = await page.context().newPage();
  other.setDefaultTimeout(0);
  await other.goto(page.url());
  const base = await seconds(() => other.evaluate(`(${fetchToNowhere})(${JSON.stringify(paths)})`));
  await other.close();
  report("Chromium, fetch to nowhere", base);
  for (const what of [
    "load",
    "load from the store",
    "the same, every 7th matrix read back and equal",
  ]) {
    const before = (await server.requests(0)).length;
    const result = await page.evaluate(
      async ({ url, verifyUpload }) => {
        const measure = Reflect.get(performance, "measureUserAgentSpecificMemory").bind(
          performance,
        );
        let [heap, loading] = [0, true];
        const sampling = (async () => {
          // Each measurement stops page and worker to collect garbage first: seldom, then, for it
          // counts as loading.
          for (; loading; await new Promise((resolve) => setTimeout(resolve, 10_000)))
            heap = Math.max(heap, (await measure()).bytes);
        })();
        const started = performance.now();
        const loaded = await Reflect.get(globalThis, "univi").Univi.create({
          model: url,
          device: "webgpu",
          contextLength: 512,
          verifyUpload,
        });
        const took = (performance.now() - started) / 1000;
        const { wasmBytes } = await loaded.memory();
        loading = false;
        await sampling;
        loaded.dispose();
        return { took, wasmBytes, heap, info: loaded.info };
      },
      { url, verifyUpload: what.includes("read back") },
    );
    const sent = (await server.requests(0))
      .slice(before)
      .reduce((sum, { bytes }) => sum + bytes, 0);
    report(`Chromium, ${what}`, result.took, base);
    console.log(
      `  ${mib(sent)} from the network, kept by ${result.info.cache.kind} (${result.info.cache.reason ?? "all of it"}); WebAssembly memory ${mib(result.wasmBytes)}, ` +
        `page and worker together at most ${mib(result.heap)}`,
    );
  }
  await page.evaluate(() => Reflect.get(globalThis, "univi").clearCache());
  await opened.close();
  await rm(profile, { recursive: true });
}

/**
 * Fetches as many files at a time as loading does.
 *
 * @param {string[]} paths
 */
async function fetchToNowhere(paths) {
  const left = [...paths];
  const fetchOne = async () => {
    for (let path = left.shift(); path !== undefined; path = left.shift()) {
      const response = await fetch(path, { cache: "no-store" });
      const reader = response.body?.getReader();
      while (reader && !(await reader.read()).done);
    }
  };
  await Promise.all([fetchOne(), fetchOne(), fetchOne(), fetchOne()]);
}

/** @param {() => Promise<unknown>} work */
async function seconds(work) {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/**
 * @param {string} what
 * @param {number} took
 * @param {number} [base]
 */
function report(what, took, base) {
  const ratio = base === undefined ? "" : `, ${(took / base).toFixed(2)} x the fetch`;
  console.log(`${what}: ${took.toFixed(1)} s, ${(total / took / 1e6).toFixed(0)} MB/s${ratio}`);
}

/** @param {number} bytes */
function mib(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
