/** Workers of a page in Chromium that keep and read files of models, for tests of the stores. */
import assert from "node:assert/strict";
import { after, afterEach, before } from "node:test";
import { openPage } from "./chromium.mjs";

export const MIB = 1 << 20;
export const KINDS = /** @type {const} */ (["opfs", "cache-api"]);

/** A file of known content. */
export const SHARD = {
  url: "https://models.test/llm-00001-of-00002.gguf",
  sha256: "1".repeat(64),
  bytes: 10 * MIB + 7,
};
/** One that is known by its URL alone. */
export const BARE = { url: "https://models.test/model.gguf", sha256: undefined, bytes: undefined };

/** @typedef {import("playwright-core").Page} Page */
/** @typedef {(typeof KINDS)[number]} Kind */
/** @typedef {import("../../pkg/src/store.js").FileKey} FileKey */
/** @typedef {import("../../pkg/src/store.js").StoredFile} Entry */

/**
 * A worker of a page.
 *
 * @typedef {object} Worker
 * @property {<A, R>(work: (tools: Tools, argument: A) => R | Promise<R>, argument?: A) =>
 * Promise<R>} run
 * @property {Page} on
 * @property {() => Promise<void>} kill As a closed tab does, whatever it is about.
 */

/**
 * What `store-worker.mjs` offers.
 *
 * @typedef {object} Tools
 * @property {typeof import("../../pkg/src/store.js").openStore} openStore
 * @property {AbortSignal} signal One that nobody aborts.
 * @property {(entry: Entry, end: number, version?: number) => Promise<void>} fill
 * @property {(entry: Entry, version?: number) => Promise<{ bytes: number, right: number,
 * largestPiece: number }>} readBack
 * @property {(kind: Kind, name: string, bytes: string) => Promise<void>} overwrite Behind the
 * store's back.
 * @property {any} held What a worker remembers from one call to the next.
 */

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
/** @type {Page} */
let page;
/** Opens a browser for the tests of the file that calls this, and clears what each has left. */
export function useBrowser() {
  before(async () => {
    opened = await openPage();
    page = opened.page;
    await page.evaluate(async () =>
      Object.assign(globalThis, { univi: await import(`${location.origin}/pkg/dist/index.js`) }),
    );
  });
  afterEach(async () => {
    for (const { kill } of started.splice(0)) await kill();
    await inPage(({ clearCache }) => clearCache());
    assert.deepEqual(await inPage(({ cachedModels }) => cachedModels()), []);
  });
  after(() => opened.close());
}

/** @type {Worker[]} */
const started = [];

/** Starts a worker. @param {Page} [on] @returns {Promise<Worker>} */
export async function start(on = page) {
  const [worker, handle] = await Promise.all([
    on.waitForEvent("worker"),
    on.evaluateHandle(async () => {
      const worker = new Worker("/store-worker.mjs", { type: "module" });
      await new Promise((resolve) => (worker.onmessage = resolve));
      return worker;
    }),
  ]);
  started.push({
    on,
    run: (work, argument) => worker.evaluate(`(${work})(tools, ${JSON.stringify(argument)})`),
    kill: () => handle.evaluate((worker) => worker.terminate()),
  });
  return /** @type {Worker} */ (started.at(-1));
}

/**
 * Runs `work` in the page, with the package.
 *
 * @template A
 * @template R
 * @param {(univi: typeof import("univi"), argument: A) => Promise<R>} work
 * @param {A} [argument]
 * @returns {Promise<R>}
 */
export function inPage(work, argument) {
  return page.evaluate(`(${work})(univi, ${JSON.stringify(argument)})`);
}

/** Opens another page, that shares all storage with the first. */
export async function otherPage() {
  const [other] = await Promise.all([
    page.context().waitForEvent("page"),
    page.evaluate(() => void open(location.href, "_blank", "noopener")),
  ]);
  await other.waitForLoadState();
  return other;
}

/** Closes a page with its workers, whatever they are about. @param {Page} tab */
export async function closeTab(tab) {
  await tab.close();
  for (const [index, { on }] of [...started.entries()].reverse())
    if (on === tab) started.splice(index, 1);
}

/** Waits until so many wait for a lock. @param {number} count */
export async function waiting(count) {
  await page.evaluate(async (count) => {
    while ((await navigator.locks.query()).pending?.length !== count)
      await new Promise((resolve) => setTimeout(resolve, 10));
  }, count);
}

/** Grants only so many bytes more than are used -> what lifts that. @param {number} bytes */
export async function quota(bytes) {
  const { usage = 0 } = await page.evaluate(() => navigator.storage.estimate());
  const browser = await page.context().newCDPSession(page);
  const { origin } = new URL(opened.url);
  await browser.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: usage + bytes });
  return () => browser.send("Storage.overrideQuotaForOrigin", { origin });
}

/**
 * Opens a file and reads it -> what was seen of it, what came, and how much of that is right.
 *
 * @param {Worker} worker
 * @param {Kind} kind
 * @param {FileKey} file
 * @param {number} [version]
 */
export function look(worker, kind, file, version) {
  return worker.run(
    async ({ openStore, signal, readBack }, { kind, file, version }) => {
      const store = await openStore(kind);
      const entry = await store.open(file, signal);
      const { size, complete, validator } = entry;
      const { bytes, right } = await readBack(entry, version);
      await entry.close();
      return { size, complete, validator, read: bytes, right };
    },
    { kind, file, version },
  );
}

/**
 * Keeps a file, or the first `bytes` of it.
 *
 * @param {Worker} worker
 * @param {Kind} kind
 * @param {FileKey} file
 * @param {{ bytes?: number, validator?: string, version?: number, finished?: boolean }} options
 */
export function keep(
  worker,
  kind,
  file,
  { bytes = file.bytes ?? 0, validator, version, finished = true },
) {
  return worker.run(
    async ({ openStore, signal, fill }, { kind, file, bytes, validator, version, finished }) => {
      const store = await openStore(kind);
      const entry = await store.open(file, signal);
      await entry.begin(validator);
      await fill(entry, bytes, version);
      if (finished) await entry.finish();
      await entry.close();
      return { kind: store.kind, reason: store.reason };
    },
    { kind, file, bytes, validator, version, finished },
  );
}
