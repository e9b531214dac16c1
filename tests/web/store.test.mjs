/** What the browser keeps of files, in Chromium: killed workers, full disks, wrong bytes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BARE, KINDS, MIB, SHARD, keep, look, quota, start, useBrowser } from "./stores.mjs";

useBrowser();

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
