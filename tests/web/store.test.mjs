/**
 * What the browser keeps of models, in Chromium: killed workers, full disks, wrong bytes, several
 * tabs.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { openPage } from "./chromium.mjs";

const MIB = 1 << 20;
const KINDS = /** @type {const} */ (["opfs", "cache-api"]);

/** A file of known content. */
const SHARD = {
  url: "https://models.test/llm-00001-of-00002.gguf",
  sha256: "1".repeat(64),
  bytes: 10 * MIB + 7,
};
/** One that is known by its URL alone. */
const BARE = { url: "https://models.test/model.gguf", sha256: undefined, bytes: undefined };

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

/** @type {Worker[]} */
const started = [];

/** Starts a worker. @param {Page} [on] @returns {Promise<Worker>} */
async function start(on = page) {
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
function inPage(work, argument) {
  return page.evaluate(`(${work})(univi, ${JSON.stringify(argument)})`);
}

/** Opens another page, that shares all storage with the first. */
async function otherPage() {
  const [other] = await Promise.all([
    page.context().waitForEvent("page"),
    page.evaluate(() => void open(location.href, "_blank", "noopener")),
  ]);
  await other.waitForLoadState();
  return other;
}

/** Closes a page with its workers, whatever they are about. @param {Page} tab */
async function closeTab(tab) {
  await tab.close();
  for (const [index, { on }] of [...started.entries()].reverse())
    if (on === tab) started.splice(index, 1);
}

/** Waits until so many wait for a lock. @param {number} count */
async function waiting(count) {
  await page.evaluate(async (count) => {
    while ((await navigator.locks.query()).pending?.length !== count)
      await new Promise((resolve) => setTimeout(resolve, 10));
  }, count);
}

/** Grants only so many bytes more than are used -> what lifts that. @param {number} bytes */
async function quota(bytes) {
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
function look(worker, kind, file, version) {
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
function keep(
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

for (const kind of KINDS) {
  test(`what was kept is read back, ${kind}`, async () => {
    const writer = await start();
    assert.deepEqual(await keep(writer, kind, SHARD, { validator: '"v1"' }), {
      kind,
      reason: undefined,
    });
    const whole = {
      size: SHARD.bytes,
      complete: true,
      validator: '"v1"',
      read: SHARD.bytes,
      right: SHARD.bytes,
    };
    assert.deepEqual(await look(writer, kind, SHARD), whole);
    await writer.kill();
    assert.deepEqual(await look(await start(), kind, SHARD), whole);
    // The content counts, wherever it comes from.
    assert.deepEqual(
      await look(await start(), kind, { ...SHARD, url: "https://mirror.test/llm.gguf" }),
      whole,
    );
    const empty = { ...BARE, bytes: 0 };
    await keep(await start(), kind, empty, {});
    assert.deepEqual(await look(await start(), kind, empty), {
      size: 0,
      complete: true,
      validator: undefined,
      read: 0,
      right: 0,
    });
  });

  test(`a complete file is read by several at once, in pieces, ${kind}`, async () => {
    await keep(await start(), kind, SHARD, {});
    const workers = [await start(), await start()];
    for (const worker of workers) {
      await worker.run(
        async ({ openStore, signal, held }, { kind, file }) => {
          held.entry = await (await openStore(kind)).open(file, signal);
        },
        { kind, file: SHARD },
      );
    }
    const read = await Promise.all(
      workers.map((worker) => worker.run(async ({ readBack, held }) => readBack(held.entry))),
    );
    for (const { bytes, right, largestPiece } of read) {
      assert.deepEqual([bytes, right], [SHARD.bytes, SHARD.bytes]);
      assert.ok(largestPiece <= 4 * MIB, `${largestPiece} bytes`);
    }
    const first = await workers[0]?.run(async ({ held }) => {
      for await (const piece of held.entry.read()) return piece.length; // And leaves.
      return 0;
    });
    assert.ok(first);
  });

  test(`a file whose worker was killed goes on where it was, ${kind}`, async () => {
    const killed = await start();
    await killed.run(
      async ({ openStore, signal, fill, held }, { kind, file, bytes }) => {
        held.entry = await (await openStore(kind)).open(file, signal);
        await held.entry.begin('"v1"');
        await fill(held.entry, bytes);
      },
      { kind, file: SHARD, bytes: 9 * MIB },
    );
    await killed.kill();
    const found = await look(await start(), kind, SHARD);
    assert.ok(found.size >= 8 * MIB && found.size <= 9 * MIB, `${found.size} bytes`);
    assert.deepEqual(found, {
      size: found.size,
      complete: false,
      validator: '"v1"',
      read: found.size,
      right: found.size,
    });
    // Closed in the middle, every byte stays; and then the rest comes.
    for (const [bytes, complete] of /** @type {const} */ ([
      [9 * MIB + 5, false],
      [SHARD.bytes, true],
    ])) {
      await (await start()).run(
        async ({ openStore, signal, fill }, { kind, file, bytes, complete }) => {
          const entry = await (await openStore(kind)).open(file, signal);
          await fill(entry, bytes);
          if (complete) await entry.finish();
          await entry.close();
        },
        { kind, file: SHARD, bytes, complete },
      );
      assert.deepEqual(await look(await start(), kind, SHARD), {
        size: bytes,
        complete,
        validator: '"v1"',
        read: bytes,
        right: bytes,
      });
    }
  });

  test(`wrong bytes are dropped and come anew, ${kind}`, async () => {
    await keep(await start(), kind, SHARD, { version: 1 });
    const worker = await start();
    const after = await worker.run(
      async ({ openStore, signal, fill, readBack }, { kind, file }) => {
        const entry = await (await openStore(kind)).open(file, signal);
        const { right } = await readBack(entry);
        await entry.evict();
        const evicted = { size: entry.size, complete: entry.complete };
        await entry.begin(undefined);
        await fill(entry, file.bytes);
        await entry.finish();
        await entry.close();
        await entry.close();
        return { right, evicted };
      },
      { kind, file: SHARD },
    );
    assert.deepEqual(after, { right: 0, evicted: { size: 0, complete: false } });
    assert.equal((await look(worker, kind, SHARD)).right, SHARD.bytes);
    // Evicted and left: nothing is there any more.
    await worker.run(
      async ({ openStore, signal }, { kind, file }) => {
        const entry = await (await openStore(kind)).open(file, signal);
        await entry.evict();
        await entry.close();
      },
      { kind, file: SHARD },
    );
    assert.deepEqual(await look(worker, kind, SHARD), {
      size: 0,
      complete: false,
      validator: undefined,
      read: 0,
      right: 0,
    });
  });

  test(`a changed response replaces what was kept, ${kind}`, async () => {
    const worker = await start();
    const bytes = 5 * MIB + 1;
    await keep(worker, kind, BARE, { bytes, validator: '"v1"', finished: false });
    assert.deepEqual(await look(worker, kind, BARE), {
      size: bytes,
      complete: false,
      validator: '"v1"',
      read: bytes,
      right: bytes,
    });
    const shorter = 2 * MIB;
    await keep(worker, kind, BARE, { bytes: shorter, validator: '"v2"', version: 2 });
    const found = {
      size: shorter,
      complete: true,
      validator: '"v2"',
      read: shorter,
      right: shorter,
    };
    assert.deepEqual(await look(worker, kind, BARE, 2), found);
    // Also where the old one was complete.
    await keep(worker, kind, BARE, { bytes, validator: '"v3"', version: 3, finished: false });
    assert.deepEqual(await look(worker, kind, BARE, 3), {
      size: bytes,
      complete: false,
      validator: '"v3"',
      read: bytes,
      right: bytes,
    });
    // Half a file that nobody could recognize is no use; one whose content was promised is.
    const nothing = { size: 0, complete: false, validator: undefined, read: 0, right: 0 };
    await keep(worker, kind, BARE, { bytes, finished: false });
    assert.deepEqual(await look(worker, kind, BARE), nothing);
    await keep(worker, kind, SHARD, { bytes, finished: false });
    assert.deepEqual(await look(worker, kind, SHARD), {
      ...nothing,
      size: bytes,
      read: bytes,
      right: bytes,
    });
  });

  test(`a file larger than promised is dropped, ${kind}`, async () => {
    const worker = await start();
    for (const finished of [true, false]) {
      await keep(worker, kind, SHARD, { finished });
      const { size, complete } = await look(worker, kind, { ...SHARD, bytes: SHARD.bytes - 1 });
      assert.deepEqual({ size, complete }, { size: 0, complete: false });
      assert.equal((await look(worker, kind, SHARD)).size, 0, "it is gone for good");
    }
  });

  test(`who comes second waits, and shares the download, ${kind}`, async () => {
    const tab = await otherPage();
    const [first, second, third] = [await start(), await start(), await start(tab)];
    await first.run(
      async ({ openStore, signal, fill, held }, { kind, file }) => {
        held.entry = await (await openStore(kind)).open(file, signal);
        await held.entry.begin(undefined);
        await fill(held.entry, 1 << 20);
      },
      { kind, file: SHARD },
    );
    const others = [second, third].map((worker) => look(worker, kind, SHARD));
    await waiting(2);
    await first.run(
      async ({ fill, held }, { file }) => {
        await fill(held.entry, file.bytes);
        await held.entry.finish(); // It still is open here; the others may read it.
      },
      { file: SHARD },
    );
    for (const other of others) {
      const found = await other;
      assert.deepEqual(found, {
        size: SHARD.bytes,
        complete: true,
        validator: undefined,
        read: SHARD.bytes,
        right: SHARD.bytes,
      });
    }
    await closeTab(tab);
  });

  test(`who waits takes over from a tab that is closed, ${kind}`, async () => {
    const tab = await otherPage();
    await (await start(tab)).run(
      async ({ openStore, signal, fill, held }, { kind, file }) => {
        held.entry = await (await openStore(kind)).open(file, signal);
        await held.entry.begin(undefined);
        await fill(held.entry, file.bytes);
      },
      { kind, file: SHARD },
    );
    const heir = (await start()).run(
      async ({ openStore, signal, fill }, { kind, file }) => {
        const store = await openStore(kind);
        const entry = await store.open(file, signal);
        const { size } = entry;
        await fill(entry, file.bytes);
        await entry.finish();
        await entry.close();
        return { size, reason: store.reason };
      },
      { kind, file: SHARD },
    );
    await waiting(1);
    await closeTab(tab);
    const { size, reason } = await heir;
    assert.equal(reason, undefined);
    assert.ok(size >= 8 * MIB, `${size} bytes`);
    assert.equal((await look(await start(), kind, SHARD)).right, SHARD.bytes);
  });

  test(`waiting for another tab can be aborted, ${kind}`, async () => {
    const [first, second] = [await start(), await start()];
    await first.run(
      async ({ openStore, signal, held }, { kind, file }) => {
        held.entry = await (await openStore(kind)).open(file, signal);
      },
      { kind, file: SHARD },
    );
    const aborted = second.run(
      async ({ openStore, held }, { kind, file }) => {
        held.stop = new AbortController();
        held.store = await openStore(kind);
        const before = await held.store
          .open(file, AbortSignal.abort())
          .catch((/** @type {Error} */ { name }) => name);
        const during = await held.store
          .open(file, held.stop.signal)
          .catch((/** @type {Error} */ { name }) => name);
        return { before, during, reason: held.store.reason };
      },
      { kind, file: SHARD },
    );
    await waiting(1);
    await second.run(async ({ held }) => held.stop.abort());
    assert.deepEqual(await aborted, {
      before: "AbortError",
      during: "AbortError",
      reason: undefined,
    });
    await first.run(async ({ held }) => held.entry.close());
    await keep(second, kind, SHARD, {});
    assert.equal((await look(first, kind, SHARD)).right, SHARD.bytes);
  });

  test(`a full disk ends keeping, not loading, ${kind}`, async () => {
    const worker = await start();
    await worker.run(
      async ({ openStore, held }, { kind }) => {
        held.store = await openStore(kind);
      },
      { kind },
    );
    const other = { ...SHARD, sha256: "2".repeat(64) };
    const large = { ...SHARD, bytes: 40 * MIB };
    const lift = await quota(12 * MIB);
    const told = await worker.run(
      async ({ signal, fill, readBack, held }, { large, other }) => {
        const entry = await held.store.open(large, signal);
        await entry.begin(undefined);
        await fill(entry, large.bytes);
        await entry.finish();
        await entry.close();
        const { reason } = held.store;
        const next = await held.store.open(other, signal);
        await next.begin(undefined);
        await fill(next, other.bytes);
        await next.finish();
        const { bytes } = await readBack(next);
        await next.close();
        await held.store.putDocument("https://models.test/manifest.json", new Uint8Array(9), {
          name: "A",
          files: [],
        });
        return { reason, complete: entry.complete, next: next.complete, bytes };
      },
      { large, other },
    );
    await lift();
    assert.match(told.reason ?? "", /full/);
    assert.deepEqual(told, { reason: told.reason, complete: false, next: false, bytes: 0 });
    // What came before the disk was full is of use when there is room again.
    const found = await look(await start(), kind, large);
    assert.ok(found.size >= 4 * MIB && found.size <= 12 * MIB, `${found.size} bytes`);
    assert.equal(found.right, found.size);
    await keep(await start(), kind, large, {});
    assert.equal((await look(await start(), kind, large)).right, large.bytes);
  });

  test(`what is damaged in the store is not believed, ${kind}`, async () => {
    const name = `file-${SHARD.sha256}`;
    const damages = {
      "a torn record": [`${name}.json`, '{"url":"ht'],
      "a record of something else": [`${name}.json`, '[{"bytes":"many"}]'],
      "no record": [`${name}.json`, ""],
      "a record that promises more": [
        `${name}.json`,
        '{"url":"https://models.test/","bytes":99999999}',
      ],
      "lost bytes": [name, "just some words"],
    };
    const worker = await start();
    for (const [damage, [where, bytes]] of Object.entries(damages)) {
      await keep(worker, kind, SHARD, {});
      const damaged = { kind, where: where ?? "", bytes: bytes ?? "" };
      await worker.run(
        ({ overwrite }, { kind, where, bytes }) => overwrite(kind, where, bytes),
        damaged,
      );
      const { size, complete } = await look(worker, kind, SHARD);
      assert.deepEqual({ size, complete }, { size: 0, complete: false }, damage);
    }
    // Nor is a manifest.
    const url = "https://models.test/manifest.json";
    const kept = await worker.run(
      async ({ openStore, overwrite }, { kind, url }) => {
        const store = await openStore(kind);
        await store.putDocument(url, new Uint8Array(9), { name: "A", files: [] });
        const before = (await store.getDocument(url))?.length;
        const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(url));
        const digits = [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0"));
        await overwrite(kind, `model-${digits.join("")}`, "{");
        return [before, (await store.getDocument(url))?.length];
      },
      { kind, url },
    );
    assert.deepEqual(kept, [9, undefined]);
  });
}

test("a file that is lost while it is read is read up to there, and loading goes on", async () => {
  await keep(await start(), "opfs", SHARD, {});
  const told = await (await start()).run(async ({ openStore, signal, fill, overwrite }, file) => {
    const store = await openStore("opfs");
    const entry = await store.open(file, signal);
    let bytes = 0;
    for await (const piece of entry.read()) {
      if (bytes === 0) await overwrite("opfs", `file-${file.sha256}`, "");
      bytes += piece.length;
    }
    const { size, complete } = entry;
    await fill(entry, file.bytes);
    await entry.finish();
    await entry.close();
    return { bytes, size, complete, reason: store.reason };
  }, SHARD);
  assert.ok(told.bytes > 0 && told.bytes < SHARD.bytes, `${told.bytes} bytes`);
  assert.deepEqual(told, {
    bytes: told.bytes,
    size: told.bytes,
    complete: false,
    reason: told.reason,
  });
  assert.match(told.reason ?? "", /shrunk/);
  await keep(await start(), "opfs", SHARD, {});
  assert.equal((await look(await start(), "opfs", SHARD)).right, SHARD.bytes);
});

test("a piece that is lost while it is read comes anew", async () => {
  await keep(await start(), "cache-api", SHARD, {});
  const told = await (await start()).run(async ({ openStore, signal, fill }, file) => {
    const store = await openStore("cache-api");
    const entry = await store.open(file, signal);
    let bytes = 0;
    for await (const piece of entry.read()) {
      if (bytes === 0)
        await (await caches.open("univi")).delete(`https://univi.invalid/file-${file.sha256}/1`);
      bytes += piece.length;
    }
    const { size, complete } = entry;
    await fill(entry, file.bytes);
    await entry.finish();
    await entry.close();
    return { bytes, size, complete, reason: store.reason };
  }, SHARD);
  assert.deepEqual(told, { bytes: 4 * MIB, size: 4 * MIB, complete: false, reason: undefined });
  assert.equal((await look(await start(), "cache-api", SHARD)).right, SHARD.bytes);
});

test("the best store that works is opened, and what is missing is told", async () => {
  /** @param {() => unknown} take What a browser may lack. */
  const opens = async (take) => {
    const worker = await start();
    await worker.run(take);
    return worker.run(
      async ({ openStore, signal, fill, readBack }, file) => {
        /** @type {Record<string, { kind: string, reason: string | undefined }>} */
        const stores = {};
        for (const choice of /** @type {const} */ (["auto", "opfs", "cache-api", "none"])) {
          const { kind, reason } = await openStore(choice);
          stores[choice] = { kind, reason };
        }
        const store = await openStore("auto");
        const entry = await store.open(file, signal);
        await entry.begin(undefined);
        await fill(entry, file.bytes);
        await entry.finish();
        const { bytes } = await readBack(entry);
        await entry.evict();
        await entry.close();
        await store.putDocument("https://models.test/", new Uint8Array(1), {
          name: "A",
          files: [],
        });
        const document = await store.getDocument("https://models.test/");
        return { stores, bytes, document: document?.length };
      },
      { ...SHARD, bytes: 1000 },
    );
  };
  const asked = { kind: "none", reason: "it was asked that nothing be kept" };

  const all = await opens(() => {});
  const [opfs, cacheApi] = KINDS.map((kind) => ({ kind, reason: undefined }));
  assert.deepEqual(all, {
    stores: { auto: opfs, opfs, "cache-api": cacheApi, none: asked },
    bytes: 1000,
    document: 1,
  });

  const noOpfs = await opens(() =>
    Reflect.deleteProperty(StorageManager.prototype, "getDirectory"),
  );
  const missing = "OPFS can't be used: this browser has none";
  const instead = {
    auto: { kind: "cache-api", reason: missing },
    opfs: { kind: "none", reason: missing },
  };
  assert.deepEqual(noOpfs, {
    stores: { ...instead, "cache-api": cacheApi, none: asked },
    bytes: 1000,
    document: 1,
  });

  const noHandles = await opens(() =>
    Reflect.deleteProperty(FileSystemFileHandle.prototype, "createSyncAccessHandle"),
  );
  assert.equal(noHandles.stores.auto?.kind, "cache-api");
  assert.match(noHandles.stores.auto?.reason ?? "", /sync access handles/);

  const nothing = await opens(() => {
    const refuse = async () => {
      throw new DOMException("The operation is insecure.", "SecurityError");
    };
    StorageManager.prototype.getDirectory = refuse;
    CacheStorage.prototype.open = refuse;
  });
  const forbidden =
    "can't be used: the browser forbids it, as in a private window (The operation is insecure.)";
  assert.deepEqual(nothing.stores.auto, {
    kind: "none",
    reason: `OPFS ${forbidden}; the Cache API ${forbidden}`,
  });
  assert.deepEqual([nothing.bytes, nothing.document], [0, undefined]);

  // Where the browser has no storage manager, as older WebKit, it may have the Cache API.
  const noStorage = await opens(() =>
    Object.defineProperty(navigator, "storage", { value: undefined }),
  );
  assert.deepEqual(noStorage.stores.auto, instead.auto);
  assert.deepEqual([noStorage.bytes, noStorage.document], [1000, 1]);

  // Without locks, two tabs may fetch the same file twice; that is all.
  const noLocks = await opens(() =>
    Object.defineProperty(navigator, "locks", { value: undefined }),
  );
  assert.deepEqual(noLocks.bytes, 1000);
});

test("models share files, and are told and deleted one by one", async () => {
  const vision = { url: "https://models.test/vision.gguf", sha256: "a".repeat(64), bytes: 1000 };
  const large = { url: "https://models.test/large.gguf", sha256: "b".repeat(64), bytes: 3000 };
  const small = { url: "https://models.test/small.gguf", sha256: "c".repeat(64), bytes: 2000 };
  const bare = { ...BARE, bytes: 500 };
  const worker = await start();
  /** @param {string} name @param {FileKey[]} files @param {Kind} [kind] */
  const describe = async (name, files, kind = "opfs") => {
    await worker.run(
      async ({ openStore }, { kind, name, files }) => {
        const store = await openStore(kind);
        await store.putDocument(
          `https://models.test/${name}.json`,
          new TextEncoder().encode(name),
          { name, files },
        );
      },
      { kind, name, files },
    );
  };
  const told = () =>
    inPage(async ({ cachedModels }) => {
      const models = await cachedModels();
      return models.map(({ usedAt, ...model }) => ({
        ...model,
        age: usedAt && Date.now() - usedAt.getTime(),
      }));
    });
  const brief = async () =>
    Object.fromEntries(
      (await told()).map(({ name, bytes, complete }) => [name, complete ? bytes : -bytes]),
    );

  await describe("Large", [vision, large]);
  for (const file of [vision, large]) await keep(worker, "opfs", file, {});
  await describe("Small", [vision, small]);
  await keep(worker, "opfs", small, { bytes: 700, finished: false });
  await keep(worker, "opfs", bare, {});
  await keep(worker, "cache-api", small, {}); // As an older version of the browser might have left it.
  const models = await told();
  for (const { age, name } of models.slice(0, 2))
    assert.ok(age !== undefined && age >= 0 && age < 60_000, name);
  assert.deepEqual(
    models.map(({ age, ...model }) => model),
    [
      { url: "https://models.test/Small.json", name: "Small", bytes: 1700, complete: false },
      { url: "https://models.test/Large.json", name: "Large", bytes: 4000, complete: true },
      { url: bare.url, name: "model.gguf", bytes: 500, complete: true },
      { url: small.url, name: "small.gguf", bytes: 2000, complete: true },
    ],
  );

  // A model that is looked at again was used last.
  const offline = await worker.run(async ({ openStore }) => {
    const store = await openStore("opfs");
    const manifest = await store.getDocument("https://models.test/Large.json");
    return [
      manifest && new TextDecoder().decode(manifest),
      (await store.getDocument("https://models.test/None.json"))?.length,
    ];
  });
  assert.deepEqual(offline, ["Large", undefined]);
  assert.equal((await told())[0]?.name, "Large");

  await inPage(({ deleteCachedModel }) => deleteCachedModel("https://models.test/Large.json"));
  assert.deepEqual(await brief(), { Small: -1700, "model.gguf": 500, "small.gguf": 2000 });
  assert.equal((await look(worker, "opfs", large)).size, 0);
  assert.equal((await look(worker, "opfs", vision)).size, 1000, "the other model needs it");

  // A manifest that names other files has no use for the former ones.
  await describe("Small", [vision]);
  for (const bytes of [9, 2]) {
    const read = await worker.run(
      async ({ openStore }, { bytes, vision }) => {
        const store = await openStore("opfs");
        await store.putDocument(
          "https://models.test/Small.json",
          new Uint8Array(bytes).fill(bytes),
          { name: "Small", files: [vision] },
        );
        return [...((await store.getDocument("https://models.test/Small.json")) ?? [])];
      },
      { bytes, vision },
    );
    assert.deepEqual(read, new Array(bytes).fill(bytes));
  }
  assert.deepEqual(await brief(), { Small: 1000, "model.gguf": 500, "small.gguf": 2000 });

  await inPage(({ deleteCachedModel }) => deleteCachedModel("https://models.test/model.gguf"));
  assert.deepEqual(await brief(), { Small: 1000, "small.gguf": 2000 });
  await inPage(({ deleteCachedModel }) => deleteCachedModel("https://models.test/never.json"));
  await inPage(({ clearCache }) => clearCache());
  assert.deepEqual(await brief(), {});
});

test("what is being downloaded is neither deleted nor cleared", async () => {
  const worker = await start();
  await worker.run(async ({ openStore, signal, fill, held }, file) => {
    const store = await openStore("opfs");
    await store.putDocument("https://models.test/manifest.json", new Uint8Array(9), {
      name: "A",
      files: [file],
    });
    held.entry = await store.open(file, signal);
    await held.entry.begin(undefined);
    await fill(held.entry, 1 << 20);
  }, SHARD);
  const left = await inPage(async ({ cachedModels, clearCache, deleteCachedModel }) => {
    await deleteCachedModel("https://models.test/manifest.json");
    await clearCache();
    return (await cachedModels()).map(({ name, bytes, complete }) => ({ name, bytes, complete }));
  });
  assert.deepEqual(left, [{ name: "llm-00001-of-00002.gguf", bytes: MIB, complete: false }]);
  await worker.run(async ({ fill, held }, { bytes }) => {
    await fill(held.entry, bytes);
    await held.entry.finish();
    await held.entry.close();
  }, SHARD);
  assert.equal((await look(worker, "opfs", SHARD)).right, SHARD.bytes);
});

test("storage can be measured, and asked to last", async () => {
  const { before, after, persists } = await inPage(async ({ storageEstimate, persistCache }) => {
    const before = await storageEstimate();
    const persists = await persistCache();
    return { before, after: await storageEstimate(), persists };
  });
  assert.ok(before && after && before.quotaBytes > before.usedBytes);
  assert.equal(typeof persists, "boolean"); // Chromium decides by how often a site is visited.
});

test("a name that no browser could keep is refused", async () => {
  const thrown = await (await start()).run(async ({ openStore, signal }) => {
    const store = await openStore("opfs");
    const file = { url: "https://models.test/x.gguf", sha256: "../../x", bytes: 1 };
    return store
      .open(file, signal)
      .catch((/** @type {{ code: string, message: string }} */ { code, message }) => ({
        code,
        message,
      }));
  });
  assert.deepEqual(thrown, {
    code: "bad-request",
    message: 'https://models.test/x.gguf: "../../x" is no SHA-256 in hexadecimal digits',
  });
});
