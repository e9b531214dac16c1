/**
 * Answers in Chromium: read more than once, started by reading, token maps only where asked for.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openPage } from "./chromium.mjs";
import { MODELS } from "./fixtures.mjs";

/** @param {string} path From the repository's root. */
const folder = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const FOLDERS = {
  "/": folder("tests/web/"),
  "/models/": `${MODELS}/`,
  "/pkg/": folder("pkg/"),
  "/samples/": folder("www/public/samples/"),
};
const QUESTION = "What is there from left to right?";

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
before(async () => {
  opened = await openPage({ folders: FOLDERS });
  opened.page.setDefaultTimeout(0);
  await opened.page.evaluate(async () => {
    const { Univi } = await import(`${location.origin}/pkg/dist/index.js`);
    const { file, fails } = await import(`${location.origin}/in-page.mjs`);
    /** @type {string[]} */
    const calls = [];
    const { postMessage } = Worker.prototype;
    Worker.prototype.postMessage = function (
      /** @type {any} */ message,
      /** @type {any} */ transfer,
    ) {
      if (message.method) calls.push(message.method);
      postMessage.call(this, message, transfer);
    };
    const load = (/** @type {string} */ device) =>
      Univi.create({ model: "/models/univi-nano/manifest.json", device });
    const univi = await load("cpu");
    const photo = await file("/samples/penguin-cookie.png");
    Object.assign(globalThis, { answers: { univi, load, file, photo, fails, calls } });
  });
});
after(() => opened.close());

/**
 * @typedef {object} Page
 * @property {import("univi").Univi} univi
 * @property {(device: "webgpu" | "cpu") => Promise<import("univi").Univi>} load
 * @property {(path: string, type?: string) => Promise<File>} file
 * @property {File} photo
 * @property {string[]} calls Methods that were called, in order.
 * @property {(work: () => Promise<unknown>) => Promise<{ name: string, code?: string, message:
 * string }>} fails
 */

/**
 * Runs `work` in the page, with `argument`.
 *
 * @template R
 * @template [A=undefined]
 * @param {(page: Page, argument: A) => Promise<R>} work
 * @param {A} [argument]
 * @returns {Promise<R>}
 */
const inPage = (work, argument) =>
  opened.page.evaluate(`(${work})(answers, ${JSON.stringify(argument)})`);

test("an answer is read as often as one likes, and is generated once", async () => {
  const said = await inPage(async ({ univi, photo, calls }, question) => {
    const answer = univi.ask([photo, question], { temperature: 0 });
    await new Promise((resolve) => setTimeout(resolve, 200));
    const before = calls.filter((method) => method === "answer").length;
    const read = async () => {
      const pieces = [];
      for await (const piece of answer) pieces.push(piece);
      return pieces;
    };
    const together = await Promise.all([read(), read(), answer.text()]);
    const after = [await read(), await answer.text()];
    const asked = calls.filter((method) => method === "answer").length;
    return { before, together, after, asked, usage: answer.usage };
  }, QUESTION);
  assert.equal(said.before, 0, "nothing starts until the answer is read");
  assert.equal(said.asked, 1);
  const [first, second, text] = said.together;
  assert.ok(first && first.length > 1, "it came in pieces");
  assert.deepEqual([second, said.after[0]], [first, first]);
  assert.deepEqual([text, said.after[1]], ["penguin and cookie", "penguin and cookie"]);
  assert.equal(first.join(""), text);
  assert.equal(said.usage?.finishReason, "stop");
});

test("a reader that leaves stops the model; others read on", async () => {
  const said = await inPage(async ({ univi, photo, fails }, question) => {
    const first = async (/** @type {AsyncIterable<string>} */ answer) => {
      for await (const piece of answer) return piece;
      return "";
    };
    const left = univi.ask([photo, question], { temperature: 0 });
    const piece = await first(left);
    const rest = await left.text();
    const shared = univi.ask([photo, question], { temperature: 0 });
    const [, whole] = await Promise.all([first(shared), shared.text()]);
    const stop = new AbortController();
    const aborted = univi.ask([photo, question], { signal: stop.signal });
    const both = [fails(() => aborted.text()), fails(() => aborted.text())];
    stop.abort();
    return {
      piece,
      rest,
      usage: left.usage,
      whole,
      aborted: await Promise.all(both),
      again: await fails(() => aborted.text()),
      refused: await Promise.all(
        [1, 2].map(() => {
          const answer = univi.ask([photo, question], { temperature: -1 });
          return fails(() => answer.text()).then(() => fails(() => answer.text()));
        }),
      ),
    };
  }, QUESTION);
  assert.ok(said.rest.startsWith(said.piece) && said.rest.length < "penguin and cookie".length);
  assert.equal(said.usage, undefined);
  assert.equal(said.whole, "penguin and cookie");
  for (const { name } of [...said.aborted, said.again]) assert.equal(name, "AbortError");
  for (const { code } of said.refused) assert.equal(code, "bad-request");
});

test("token maps are read back when they are asked for, and freed", async () => {
  for (const device of /** @type {const} */ (["cpu", "webgpu"])) {
    const said = await inPage(async ({ load, photo, file, calls, fails }, device) => {
      const univi = await load(device);
      const clip = await file("/samples/unicorn-cake-owl.webm");
      calls.length = 0;
      const answer = univi.ask([photo, clip, "What?"], { maxTokens: 1 });
      await answer.text();
      const unasked = calls.includes("tokenMap");
      const maps = await answer.tokenMaps();
      const again = await answer.tokenMaps();
      // The map starts the answer, and comes before its end.
      const early = univi.ask([photo, "What?"], { maxTokens: 1 });
      const [map] = await early.tokenMaps();
      const session = univi.session();
      const appended = await session.append([photo]);
      const [read] = await appended.tokenMaps();
      await session[Symbol.asyncDispose]();
      const wrong = await fails(() => univi.ask([new Blob(["no picture"]), "What?"]).tokenMaps());
      // What nobody asked for goes with its answer.
      const before = (await univi.memory()).gpuBytes;
      for (let i = 0; i < 3; i++) {
        const answer = univi.ask([photo, "What?"], { maxTokens: 1 });
        await answer.text();
        await answer[Symbol.asyncDispose]();
      }
      const after = (await univi.memory()).gpuBytes;
      univi.dispose();
      const stages = maps.map(({ events }) =>
        events[0]?.stages.map(({ tokens, groups }) => [tokens, groups.length]),
      );
      return {
        unasked,
        kinds: maps.map(({ kind }) => kind),
        same: maps === again,
        stages,
        early: map?.tokens,
        read: read?.tokens,
        wrong,
        leaked: after - before,
      };
    }, device);
    assert.equal(said.unasked, false, "a device is not read for what nobody asks for");
    assert.deepEqual(said.kinds, ["image", "clip"]);
    assert.ok(said.same);
    assert.deepEqual(said.stages[0], [
      [24, 64],
      [12, 64],
      [6, 64],
    ]);
    assert.deepEqual([said.early, said.read], [42, 42]);
    assert.equal(said.wrong.code, "bad-image");
    assert.equal(said.leaked, 0, `${said.leaked} bytes`);
  }
});

test("using frees what was opened", async () => {
  const said = await inPage(async ({ load, photo, fails }) => {
    const univi = await load("cpu");
    const session = univi.session();
    await session.append([photo]);
    session[Symbol.dispose]();
    const closed = await fails(() => session.ask("What?").text());
    const other = univi.session();
    await other.append([photo]);
    await other[Symbol.asyncDispose]();
    await other[Symbol.asyncDispose]();
    const unread = univi.ask([photo, "What?"]);
    await unread[Symbol.asyncDispose]();
    const text = await unread.text();
    await univi[Symbol.asyncDispose]();
    univi[Symbol.dispose]();
    const gone = await fails(() => univi.ask("What?").text());
    return { closed, text, gone };
  });
  assert.equal(said.closed.code, "bad-request");
  assert.equal(said.text, "", "an answer that is disposed of does not start");
  assert.match(said.gone.message, /disposed of/);
});
