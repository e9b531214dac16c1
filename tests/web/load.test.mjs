/**
 * Loading, through all that servers, networks and browsers do: it ends in a working model or in one
 * typed error, and nothing wrong is kept.
 */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openPage } from "./chromium.mjs";
import { MODELS, OUTPUT, realModel, tinyModel } from "./fixtures.mjs";
import { serve } from "./server.mjs";

const TINY = await tinyModel();
/** @type {{ files: { path: string, bytes: number }[] }} */
const manifest = JSON.parse(await readFile(join(OUTPUT, TINY, "manifest.json"), "utf8"));
const TOTAL = manifest.files.reduce((sum, { bytes }) => sum + bytes, 0);
/** The language model has several files. */
const SECOND = "00002-of";

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
before(async () => {
  opened = await openPage();
  await prepare(opened.page);
});
after(() => opened.close());

/** @param {import("playwright-core").Page} page */
async function prepare(page) {
  await page.evaluate(async () => {
    const univi = await import(`${location.origin}/pkg/dist/index.js`);
    /** What loading leads to, as data. */
    const load = async (/** @type {import("univi").UniviOptions} */ options) => {
      /** @type {import("univi").LoadProgress[]} */
      const heard = [];
      try {
        const onProgress = (/** @type {import("univi").LoadProgress} */ progress) => {
          heard.push(progress);
          options.onProgress?.(progress);
        };
        const loaded = await univi.Univi.create({ device: "cpu", ...options, onProgress });
        const text = await loaded.ask("What is this?", { temperature: 0, maxTokens: 4 }).text();
        loaded.dispose();
        return { text, info: loaded.info, heard, error: undefined };
      } catch (error) {
        const { name, code, message } =
          /** @type {{ name: string, code?: string, message: string }} */ (error);
        return { text: "", info: undefined, heard, error: { name, code, message } };
      }
    };
    Object.assign(globalThis, { univi, load });
  });
}

/**
 * Loads a model in a page, on the CPU.
 *
 * @param {string} model
 * @param {{ cache?: import("univi").CacheChoice, stopAt?: string }} [options] `stopAt`: the phase
 * in which it is aborted.
 * @returns {Promise<{ text: string, info: import("univi").ModelInfo | undefined, heard:
 * import("univi").LoadProgress[], error: { name: string, code?: string, message: string } |
 * undefined }>}
 */
function load(model, { cache = "auto", stopAt } = {}, page = opened.page) {
  return page.evaluate(
    ({ model, cache, stopAt }) => {
      const stop = new AbortController();
      const onProgress = (/** @type {{ phase: string }} */ { phase }) =>
        phase === stopAt && stop.abort();
      return Reflect.get(globalThis, "load")({ model, cache, signal: stop.signal, onProgress });
    },
    { model, cache, stopAt },
  );
}

const forget = (page = opened.page) =>
  page.evaluate(() => Reflect.get(globalThis, "univi").clearCache());

/**
 * Runs `work` with a server of the small model, which has these faults.
 *
 * @param {string[]} flags
 * @param {(url: string, server: Awaited<ReturnType<typeof serve>>) => Promise<void>} work
 */
async function serving(flags, work) {
  const server = await serve({ "/": join(OUTPUT, TINY) }, flags);
  try {
    await work(`${server.url}manifest.json`, server);
  } finally {
    await server.close();
  }
}

test("what was loaded once is loaded without the network", async () => {
  await forget();
  await serving([], async (url, server) => {
    const first = await load(url);
    assert.equal(first.error, undefined);
    assert.equal(first.info?.cachedBytes, 0);
    assert.equal(first.info?.cache.kind, "opfs");
    const files = manifest.files.length;
    await server.requests(1 + files);

    const second = await load(url);
    assert.equal(second.text, first.text);
    assert.equal(second.info?.cachedBytes, TOTAL);
    assert.ok(second.heard.some(({ phase }) => phase === "verify"));
    assert.ok(!second.heard.some(({ phase }) => phase === "download"));
    assert.deepEqual(
      (await server.requests(2 + files)).slice(1 + files).map(({ path }) => path),
      ["/manifest.json"],
    );
    const models = await opened.page.evaluate(() =>
      Reflect.get(globalThis, "univi").cachedModels(),
    );
    assert.deepEqual(
      models.map((/** @type {{ url: string, complete: boolean }} */ { url, complete }) => ({
        url,
        complete,
      })),
      [{ url, complete: true }],
    );
    await server.close();

    const third = await load(url);
    assert.equal(third.text, first.text, "without a server");
    for (const { heard } of [first, second, third]) {
      const loaded = heard.map((progress) => progress.loaded);
      assert.deepEqual(
        loaded,
        [...loaded].sort((a, b) => a - b),
      );
      assert.equal(loaded.at(-1), TOTAL);
    }
  });
});

/** Faults that pass: patience, another request or other bytes help. */
const PASSING = {
  "a server error": ["503,times=1"],
  "a server that asks for patience": ["429,retry-after=1,times=1"],
  "a connection that breaks": ["drop=100000,path=.gguf,times=1"],
  "a file that seems to end early": ["shorten=50000,path=.gguf,times=1"],
  "a flipped byte": ["corrupt,path=.gguf,times=1"],
  "a web page in its place": ["html,path=.gguf,times=1"],
  "no length": ["no-length"],
  "no length and a break": ["no-length", "drop=100000,path=.gguf,times=1"],
  "no ranges": ["ignore-range", "drop=100000,path=.gguf,times=1"],
  "a file that changed meanwhile": ["etag", "drop=100000,path=.gguf,times=1"],
};

for (const [what, faults] of Object.entries(PASSING)) {
  test(`${what} passes`, async () => {
    await forget();
    await serving(
      faults.flatMap((fault) => ["--fault", fault]),
      async (url, server) => {
        const { error, info } = await load(url);
        assert.equal(error, undefined, error?.message);
        assert.equal(info?.cachedBytes, 0);
        const met = (await server.requests(manifest.files.length + 1)).flatMap(
          (request) => request.faults,
        );
        assert.ok(met.length > 0, "the fault was met");
      },
    );
    await serving([], async (url) =>
      assert.equal((await load(url)).info?.cachedBytes, TOTAL, "what is kept is right"),
    );
  });
}

/** Faults that stay, with the code of the error and what it says. */
const STAYING = {
  "a missing file": [`404,path=${SECOND}`, "io", "404"],
  "a forbidden file": [`403,path=${SECOND}`, "io", "403"],
  "a server that is down": [`503,path=${SECOND}`, "io", "503"],
  "a web page in place of a file": [`html,path=${SECOND}`, "bad-file", "web page"],
  "wrong bytes": [`corrupt,path=${SECOND}`, "wrong-hash", "SHA-256"],
  "a file of another length": [`shorten=50000,path=${SECOND}`, "bad-file", "50000"],
  "too much patience asked for": [`429,retry-after=3600,path=${SECOND}`, "io", "3600"],
};

for (const [what, [fault, code, says]] of Object.entries(STAYING)) {
  test(`${what} is told`, async () => {
    await forget();
    await serving(["--fault", fault ?? ""], async (url) => {
      const { error } = await load(url);
      assert.equal(error?.name, "UniviError", error?.message);
      assert.equal(error?.code, code, error?.message);
      assert.ok(
        error?.message.includes(SECOND) && error.message.includes(says ?? ""),
        error?.message,
      );
    });
    // What came right before the error need not come again, and what came wrong is not kept.
    await serving([], async (url, server) => {
      const { error, info } = await load(url);
      assert.equal(error, undefined, error?.message);
      assert.ok(
        info && info.cachedBytes > 0 && info.cachedBytes < TOTAL,
        String(info?.cachedBytes),
      );
      const sent = (await server.requests(2)).reduce(
        (sum, { path, bytes }) => sum + (path.endsWith(".json") ? 0 : bytes),
        0,
      );
      assert.ok(sent < TOTAL);
    });
  });
}

test("a connection that falls silent is given up and taken up again", async () => {
  await forget();
  await serving(["--fault", `stall=100000,path=${SECOND},times=1`], async (url, server) => {
    const { error } = await load(url);
    assert.equal(error, undefined, error?.message);
    const [resumed] = (await server.requests(manifest.files.length + 1)).filter(
      ({ range }) => range !== null,
    );
    assert.equal(resumed?.status, 206);
  });
});

/**
 * Runs `work` with a second tab.
 *
 * @param {(tab: import("playwright-core").Page) => Promise<void>} work
 */
async function withTab(work) {
  const tab = await opened.page.context().newPage();
  try {
    await tab.goto(opened.page.url());
    await prepare(tab);
    await work(tab);
  } finally {
    await tab.close();
  }
}

test("a tab that is closed in the middle of a file goes on there", async () => {
  const file = await realModel("gguf/smollm2/expected.json");
  const bytes = (await readFile(join(MODELS, file))).length;
  await forget();
  let port = 0;
  const slow = await serve({ "/": MODELS }, ["--throttle", "20MB"]);
  try {
    port = Number(new URL(slow.url).port);
    await withTab(async (tab) => {
      const half = new Promise((resolve) => tab.exposeFunction("half", resolve));
      await tab.waitForFunction(() => "half" in globalThis);
      tab
        .evaluate((model) => {
          const onProgress = (/** @type {{ loaded: number }} */ { loaded }) =>
            loaded > 40e6 && Reflect.get(globalThis, "half")();
          return Reflect.get(globalThis, "load")({ model, onProgress });
        }, `${slow.url}${file}`)
        .catch(() => {}); // The tab is closed under it.
      await half;
    });
  } finally {
    await slow.close();
  }
  // The same address: without a manifest that names its hash, the file is known by it and by its
  // ETag.
  const again = await serve({ "/": MODELS }, [], port);
  try {
    const { error, info } = await load(`${again.url}${file}`);
    assert.equal(error, undefined, error?.message);
    assert.ok(info && info.cachedBytes >= 30e6, String(info?.cachedBytes));
    // Before the first `If-Range` for another origin, browsers ask whether it may be sent.
    const request = (await again.requests(2)).find(({ method }) => method === "GET");
    assert.equal(request?.range, `bytes=${info.cachedBytes}-`);
    assert.equal(request?.bytes, bytes - info.cachedBytes);
  } finally {
    await again.close();
  }
});

test("two tabs share one download", async () => {
  await forget();
  await withTab((tab) =>
    serving(["--throttle", "500KB"], async (url, server) => {
      const [a, b] = await Promise.all([load(url), load(url, {}, tab)]);
      assert.equal(a.error, undefined, a.error?.message);
      assert.equal(b.error, undefined, b.error?.message);
      assert.equal(a.text, b.text);
      const requests = await server.requests(manifest.files.length + 2);
      const sent = requests
        .filter(({ path }) => path !== "/manifest.json")
        .reduce((sum, { bytes }) => sum + bytes, 0);
      assert.equal(sent, TOTAL);
    }),
  );
});

test("a full disk is no reason to fail", async () => {
  await forget();
  const session = await opened.page.context().newCDPSession(opened.page);
  const origin = new URL(opened.page.url()).origin;
  await session.send("Storage.overrideQuotaForOrigin", { origin, quotaSize: 300_000 });
  await serving([], async (url) => {
    const { error, info } = await load(url);
    assert.equal(error, undefined, error?.message);
    assert.ok(info?.cache.reason, "it says why nothing more is kept");
  });
  await session.send("Storage.overrideQuotaForOrigin", { origin });
  await serving([], async (url) => assert.equal((await load(url)).error, undefined));
});

test("files that the user picks load without a server, and are not copied", async () => {
  await forget();
  await serving([], async (url) => {
    const remote = await load(url);
    await forget();
    const paths = ["manifest.json", ...manifest.files.map(({ path }) => path)];
    const picked = await opened.page.evaluate(
      async ({ url, paths }) => {
        // A picked folder is of the same kind as those of the private file system.
        const root = await navigator.storage.getDirectory();
        const folder = await root.getDirectoryHandle("picked", { create: true });
        const files = [];
        for (const path of paths) {
          const bytes = await (await fetch(new URL(path, url))).arrayBuffer();
          files.push(new File([bytes], path));
          const writable = await (
            await folder.getFileHandle(path, { create: true })
          ).createWritable();
          await writable.write(bytes);
          await writable.close();
        }
        const load = Reflect.get(globalThis, "load");
        const results = [
          await load({ model: files }),
          await load({ model: folder }),
          await load({ model: files.slice(0, 3) }),
        ];
        await root.removeEntry("picked", { recursive: true });
        return { results, kept: (await Reflect.get(globalThis, "univi").cachedModels()).length };
      },
      { url, paths },
    );
    const [files, folder, incomplete] = picked.results;
    assert.equal(files.text, remote.text);
    assert.equal(folder.text, remote.text);
    assert.equal(files.info.cache.kind, "none");
    assert.equal(incomplete.error.code, "io");
    assert.ok(
      incomplete.error.message.includes("not among the chosen files"),
      incomplete.error.message,
    );
    assert.equal(picked.kept, 0);
  });
});

test("loading can be stopped in every phase", async () => {
  await forget();
  await serving([], async (url) => {
    for (const stopAt of ["manifest", "download", "upload", "compile", "verify"]) {
      const { error } = await load(url, { stopAt });
      assert.equal(error?.name, "AbortError", `${stopAt}: ${error?.message}`);
    }
    const { error, info } = await load(url);
    assert.equal(error, undefined, error?.message);
    assert.ok(info && info.cachedBytes > 0);
  });
});

test("what a device has no room for is not even fetched", async () => {
  await forget();
  const large = {
    ...manifest,
    files: manifest.files.map((file) => ({ ...file, bytes: file.bytes * 100_000 })),
  };
  await writeFile(join(OUTPUT, TINY, "large.json"), JSON.stringify(large));
  await serving([], async (url, server) => {
    const { error } = await load(url.replace("manifest.json", "large.json"));
    assert.equal(error?.code, "out-of-memory", error?.message);
    assert.deepEqual(
      (await server.requests(1)).map(({ path }) => path),
      ["/large.json"],
    );
  });
});
