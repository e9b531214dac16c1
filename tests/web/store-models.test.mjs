/** Which store a browser offers, and the models that lie in it, in Chromium. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BARE, KINDS, SHARD, inPage, keep, look, start, useBrowser } from "./stores.mjs";

/** @typedef {import("./stores.mjs").Kind} Kind */
/** @typedef {import("./stores.mjs").FileKey} FileKey */

useBrowser();

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

test("storage can be measured, and asked to last", async () => {
  const { before, after, persists } = await inPage(async ({ storageEstimate, persistCache }) => {
    const before = await storageEstimate();
    const persists = await persistCache();
    return { before, after: await storageEstimate(), persists };
  });
  assert.ok(before && after && before.quotaBytes > before.usedBytes);
  assert.equal(typeof persists, "boolean"); // Chromium decides by how often a site is visited.
});
