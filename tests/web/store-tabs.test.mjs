/** Several tabs and workers that want the same file of a model, in Chromium. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  KINDS,
  MIB,
  SHARD,
  closeTab,
  inPage,
  keep,
  look,
  otherPage,
  start,
  useBrowser,
  waiting,
} from "./stores.mjs";

useBrowser();

for (const kind of KINDS) {
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
}

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
