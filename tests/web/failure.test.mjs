/**
 * What becomes of a model whose WebAssembly instance fails: by a panic, a trap, or an exception
 * that passes through it. Every call ends, the process goes on, and other models are not touched.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Univi, UniviError } from "univi";
import { MODELS } from "./fixtures.mjs";

const { host } = await import("../../pkg/dist/host.js");
const { inference } = await import("../../pkg/dist/module.js");
const { Client, serve } = await import("../../pkg/dist/rpc.js");

const NANO = join(MODELS, "univi-nano");
const PICTURE = pathToFileURL(
  fileURLToPath(new URL("../../www/public/samples/penguin-cookie.png", import.meta.url)),
);

/** @param {Promise<unknown>} work */
const failureOf = (work) =>
  work.then(
    () => assert.fail("it did not fail"),
    (error) => {
      assert.ok(error instanceof UniviError, `${error}`);
      return error;
    },
  );

/** An object whose property can't be read. */
const poisoned = (/** @type {string} */ name) =>
  Object.defineProperty({}, name, {
    get() {
      throw new RangeError("no more room");
    },
  });

async function answers() {
  const univi = await Univi.create({ model: NANO, device: "cpu" });
  const answer = univi.ask([PICTURE, "What is there from left to right?"], { temperature: 0 });
  assert.equal(await answer.text(), "penguin and cookie");
  return univi;
}

test("what runs in a task of its own fails where it is heard", async () => {
  /** @type {(error: unknown) => void} */
  let hear = () => {};
  const heard = new Promise((resolve) => (hear = resolve));
  const { bindings } = await inference.instantiate(hear);
  // The exception passes through the instance, which has no caller to give it to.
  bindings.Loader.create("cpu", poisoned("contextLength")).catch(() => {});
  const error = await heard;
  assert.ok(error instanceof UniviError);
  assert.equal(error.code, "internal");
  assert.match(error.message, /no more room.*create the model again/);
  // Nothing of it may be used any more, but to let go of it.
  assert.throws(() => new bindings.Turn(), error);
  (await answers()).dispose();
});

test("calls under way end, other models go on, and the next one loads", async () => {
  const other = await answers();
  /** @type {any[]} */
  const ends = [0, 1].map((self) => ({
    onmessage: null,
    postMessage: (/** @type {unknown} */ data) =>
      queueMicrotask(() => ends[1 - self].onmessage?.({ data })),
  }));
  serve(ends[1], host);
  const client = new Client(ends[0]);
  const files = await Promise.all(
    [
      "manifest.json",
      ...JSON.parse(await readFile(join(NANO, "manifest.json"), "utf8")).files.map(
        (/** @type {{ path: string }} */ file) => file.path,
      ),
    ].map(async (name) => new File([await readFile(join(NANO, name))], name)),
  );
  await client.call("load", { source: { kind: "files", files }, device: "cpu", cache: "none" });
  const [talking, opening] = [client.newHandle(), client.newHandle()];
  await client.call("openSession", { session: talking, options: {} });
  const answer = client.call("answer", {
    session: talking,
    parts: ["What is this?"],
    options: { temperature: 1, maxTokens: 200, jsonSchema: '{"type":"array","minItems":60}' },
  });
  let reads = 0;
  const options = {
    get system() {
      if (reads++ > 0) throw new RangeError("no more room"); // The first look is the check's.
      return "Be brief.";
    },
  };
  const opened = client.call("openSession", { session: opening, options });
  for (const error of await Promise.all([opened, answer].map(failureOf))) {
    assert.equal(error.code, "internal");
    assert.match(error.message, /no more room/);
  }
  assert.equal((await failureOf(client.call("memory", {}))).code, "internal");
  await client.call("free", { handles: [talking, opening] });
  await client.call("dispose", {});
  // The other model never heard of it.
  const again = other.ask([PICTURE, "What is there from left to right?"], { temperature: 0 });
  assert.equal(await again.text(), "penguin and cookie");
  other.dispose();
  (await answers()).dispose();
});

test("arguments of another kind are refused before they reach the model", async () => {
  const univi = await answers();
  /** @type {[string, any][]} */
  const refused = [
    ["maxTokens", 5n],
    ["maxTokens", -1],
    ["maxTokens", NaN],
    ["maxTokens", 2 ** 53],
    ["maxTokens", "5"],
    ["temperature", 1n],
    ["temperature", NaN],
    ["topK", 2.5],
    ["topP", Infinity],
    ["minP", {}],
    ["repetitionPenalty", "1"],
    ["seed", 2n ** 60n],
    ["stop", "word"],
    ["stop", [1]],
    ["visualTokens", -3],
    ["visualTokens", 7n],
  ];
  for (const [name, value] of refused) {
    const asked = univi.ask([PICTURE, "What is this?"], { [name]: value });
    const error = await failureOf(asked.text());
    assert.equal(error.code, "bad-request", `${name}: ${error.message}`);
    assert.match(error.message, new RegExp(`${name}.*expected`), error.message);
  }
  for (const [name, value] of /** @type {[string, any][]} */ ([
    ["contextLength", 5n],
    ["contextLength", -5],
    ["contextLength", 2 ** 53],
    ["kvCache", 8],
    ["device", 1],
  ])) {
    const error = await failureOf(Univi.create({ model: NANO, device: "cpu", [name]: value }));
    assert.equal(error.code, "bad-request", error.message);
    assert.match(error.message, new RegExp(name));
  }
  for (const system of /** @type {any[]} */ ([5, 5n, {}])) {
    const error = await failureOf((async () => univi.session({ system }).ask("Hello").text())());
    assert.equal(error.code, "bad-request", error.message);
  }
  // The model is none the worse for it.
  const answer = univi.ask([PICTURE, "What is there from left to right?"], { temperature: 0 });
  assert.equal(await answer.text(), "penguin and cookie");
  univi.dispose();
});
