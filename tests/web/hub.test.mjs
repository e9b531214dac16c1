/**
 * Models of the Hub in a page: checkpoints that are converted in the tab, to the command line's
 * files, byte by byte, through all that a Hub, a network and a closed tab do; and models that were
 * converted before.
 */
import assert from "node:assert/strict";
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import puppeteer from "puppeteer-core";
import { openPage } from "./chromium.mjs";
import { convert, FIXTURES, MODELS, nanoCheckpoint, OUTPUT, referenceAnswer } from "./fixtures.mjs";
import { FIREFOX } from "./firefox.mjs";
import { openHub } from "./hub.mjs";
import { randomCheckpoint } from "./random-checkpoint.mjs";

/** A whole small Chat-UniVi as it is published, with its licence. */
const CHECKPOINT = join(OUTPUT, "hub/checkpoint");
await rm(CHECKPOINT, { recursive: true, force: true });
await cp(join(FIXTURES, "golden/e2e/checkpoint"), CHECKPOINT, { recursive: true });
await writeFile(join(CHECKPOINT, "README.md"), "---\nlicense: llama2\n---\n");
const MODEL = "hf:tests/checkpoint";
/** The vision tower that it was made with, in a repository of its own. */
const TOWER = "openai/clip-vit-tiny-random-patch14";
const REPOSITORIES = {
  "tests/checkpoint": CHECKPOINT,
  [TOWER]: join(FIXTURES, "golden/e2e", TOWER),
};

/** @typedef {import("univi").UniviOptions} UniviOptions */
/** @typedef {Awaited<ReturnType<typeof openHub>>} Hub */
/** @typedef {{ evaluate: (code: string) => Promise<any> }} AnyPage Of whichever browser. */

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
before(async () => {
  opened = await openPage();
});
after(() => opened.close());
beforeEach(async () => {
  await opened.page.goto(opened.page.url());
  await inPage(async (univi) => univi.clearCache());
});

/**
 * Runs `work` in the page, with the package.
 *
 * @template A
 * @template R
 * @param {(univi: typeof import("univi"), argument: A) => Promise<R>} work
 * @param {A} [argument]
 * @param {AnyPage} [page] By default the one in Chromium.
 * @returns {Promise<R>}
 */
function inPage(work, argument, page = opened.page) {
  const univi = "await import(location.origin + '/pkg/dist/index.js')";
  return page.evaluate(`(async () => (${work})(${univi}, ${JSON.stringify(argument)}))()`);
}

/**
 * Loads a model in the page, on the CPU, and asks it about a picture where one is given.
 *
 * @param {Hub} hub
 * @param {Partial<Omit<UniviOptions, "model">> & { model?: string, question?: string, picture?:
 * string, template?: string, tokens?: number, asPublished?: boolean }} options
 * @param {AnyPage} [page]
 */
function load(hub, { asPublished = false, ...options } = {}, page = opened.page) {
  const quantization = asPublished ? {} : { quantization: "f16" };
  const given = { model: MODEL, ...quantization, hubEndpoint: hub.url, ...options };
  return inPage(
    async ({ Univi }, { question, picture, template, tokens, ...options }) => {
      /** @type {import("univi").LoadProgress[]} */
      const heard = [];
      try {
        const onProgress = (/** @type {import("univi").LoadProgress} */ progress) =>
          heard.push(progress);
        const univi = await Univi.create({ device: "cpu", ...options, onProgress });
        const session = univi.session(template === undefined ? {} : { template });
        const image = await (await fetch(picture ?? "/fixtures/golden/e2e/image.png")).blob();
        const parts = [image, question ?? "What is this?"];
        const text = await session.ask(parts, { temperature: 0, maxTokens: tokens ?? 4 }).text();
        univi.dispose();
        return { text, info: univi.info, heard, error: undefined };
      } catch (error) {
        const { code, message } = /** @type {import("univi").UniviError} */ (error);
        return { text: "", info: undefined, heard, error: { code, message } };
      }
    },
    given,
    page,
  );
}

/** The SHA-256 and sizes of the files that a browser keeps. @param {AnyPage} [page] */
function keptFiles(page = opened.page) {
  return inPage(
    async () => {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("univi");
      /** @type {[string, number][]} */
      const kept = [];
      for await (const [name, handle] of folder.entries()) {
        const [, sha256] = /^file-([0-9a-f]{64})$/.exec(name) ?? [];
        if (sha256 !== undefined && handle.kind === "file")
          kept.push([sha256, (await /** @type {any} */ (handle).getFile()).size]);
      }
      return kept.sort(([a], [b]) => (a < b ? -1 : 1));
    },
    undefined,
    page,
  );
}

/** What the command line makes of the same checkpoint. @param {string} quantization */
async function commandLine(quantization, checkpoint = CHECKPOINT) {
  const tower = checkpoint === CHECKPOINT ? ["--vision-tower", REPOSITORIES[TOWER] ?? ""] : [];
  const flags = ["--quant", quantization, ...tower];
  const folder = await convert(checkpoint, `hub-${quantization}`, flags);
  /** @type {{ files: { sha256: string, bytes: number }[] }} */
  const { files } = JSON.parse(await readFile(join(folder, "manifest.json"), "utf8"));
  return files
    .map(({ sha256, bytes }) => /** @type {[string, number]} */ ([sha256, bytes]))
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

/**
 * @param {import("node:test").TestContext} t
 * @param {string[]} [flags]
 * @param {Record<string, string>} [repositories]
 */
async function hubOf(t, flags, repositories = REPOSITORIES) {
  const hub = await openHub(repositories, flags);
  t.after(hub.close);
  return hub;
}

/** How many requests had to do with a Hub so far. @param {Hub} hub */
const asked = async (hub) => (await hub.requests()).length;

test("a checkpoint is converted in the tab, to the command line's files, once", async (t) => {
  const hub = await hubOf(t);
  const { question, template, answer, tokens, files } = await referenceAnswer("image_qa");
  const options = { question, template, tokens, picture: `/fixtures/${files[0]}` };
  const first = await load(hub, options);
  assert.equal(first.error, undefined);
  assert.equal(first.text, answer);
  assert.deepEqual(await keptFiles(), await commandLine("f16"));
  // It says how far it is, and ends with all of it.
  const converting = first.heard.filter(({ phase }) => phase === "convert");
  assert.ok(converting.length > 0);
  for (const { loaded, total } of converting) assert.ok(loaded <= total && total > 0);
  // Addresses are pinned, ranges plain, and the storage refused no preflight.
  const requests = await hub.requests();
  for (const { is_storage, method, path, status } of requests) {
    assert.equal(method, "GET");
    assert.ok(status < 400, `${status} for ${path}`);
    if (!is_storage) assert.match(path, /^[/]api[/]models[/]|[/]resolve[/][0-9a-f]{40}[/]/);
  }
  // Little is fetched beside the tensors: these archives are shorter than what is read to plan.
  const total = converting.at(-1)?.total ?? 0;
  const sent = await hub.sentBytes();
  assert.ok(sent < 2.2 * total, `${sent} of ${total}`);

  await opened.page.reload();
  const second = await load(hub, options);
  assert.equal(second.text, answer);
  assert.equal(second.info?.cachedBytes, second.info?.bytes);
  assert.equal(await asked(hub), requests.length);
  // Another revision, or quantization, is another model.
  const other = await load(hub, { quantization: "q8_0" });
  assert.equal(other.error, undefined);
  assert.ok((await asked(hub)) > requests.length);
});

test("Firefox makes the same files, and keeps them", async (t) => {
  const hub = await hubOf(t);
  const { question, template, answer, tokens, files } = await referenceAnswer("image_qa");
  const options = { question, template, tokens, picture: `/fixtures/${files[0]}` };
  const browser = await puppeteer.launch(FIREFOX);
  t.after(() => browser.close());
  const page = await browser.newPage();
  await page.goto(opened.page.url());
  const first = await load(hub, options, page);
  assert.equal(first.error, undefined);
  assert.equal(first.text, answer);
  assert.deepEqual(await keptFiles(page), await commandLine("f16"));
  const requests = await asked(hub);
  const second = await load(hub, options, page);
  assert.equal(second.text, answer);
  assert.equal(second.info?.cachedBytes, second.info?.bytes);
  assert.equal(await asked(hub), requests);
});

test("what it takes is said before, and what was made is told and removed", async (t) => {
  const hub = await hubOf(t);
  const options = { model: MODEL, quantization: "q4_0", hubEndpoint: hub.url };
  const found = await inPage(
    ({ Univi }, options) => Univi.availability({ device: "cpu", ...options }),
    options,
  );
  assert.equal(found.status, "downloadable");
  assert.equal(found.conversion?.license, "llama2");
  assert.equal(found.conversion?.fetchedBytes, 0);
  const expected = (await commandLine("q4_0")).reduce((sum, [, bytes]) => sum + bytes, 0);
  assert.equal(found.bytes, expected);
  assert.deepEqual(await keptFiles(), []);

  assert.equal((await load(hub, { quantization: "q4_0" })).error, undefined);
  const [kept, ...others] = await inPage((univi) => univi.cachedModels());
  assert.deepEqual(others, []);
  assert.equal(kept?.complete, true);
  assert.equal(kept?.bytes, expected);
  assert.match(kept?.url ?? "", /^hf:tests\/checkpoint\?quantization=q4_0$/);
  const again = await inPage(
    ({ Univi }, options) => Univi.availability({ device: "cpu", ...options }),
    options,
  );
  assert.equal(again.status, "available");
  await inPage((univi, url) => univi.deleteCachedModel(url), kept?.url ?? "");
  assert.deepEqual(await keptFiles(), []);
});

test("a closed tab, and an aborted call, go on from where they were", async (t) => {
  const checkpoint = await randomCheckpoint("random-llama", { width: 512, layers: 12, ffn: 1408 });
  const hub = await hubOf(t, ["--bytes-per-s", "16000000"], { "tests/random-llama": checkpoint });
  const model = "hf:tests/random-llama";
  const options = { model, quantization: "f16", hubEndpoint: hub.url, device: "cpu" };
  const tab = await opened.page.context().newPage();
  await tab.goto(opened.page.url());
  // Until something can be relied on, the tab lives.
  const lives = inPage(
    ({ Univi }, options) => Univi.create(/** @type {UniviOptions} */ (options)).then(() => {}),
    options,
    tab,
  ).catch(() => {});
  const made = async () =>
    (await inPage((univi) => univi.cachedModels())).reduce((sum, { bytes }) => sum + bytes, 0);
  while ((await made()) < 40e6) await new Promise((resolve) => setTimeout(resolve, 50));
  await tab.close();
  await lives;
  assert.deepEqual(await keptFiles(), [], "nothing that is not whole has the name of a whole one");
  const left = await inPage((univi) => univi.cachedModels());
  assert.equal(left.length, 1);
  assert.equal(left[0]?.complete, false);

  const aborted = await inPage(async ({ Univi }, options) => {
    const stop = new AbortController();
    const onProgress = (/** @type {{ phase: string }} */ { phase }) =>
      phase === "convert" && stop.abort();
    const given = { ...options, signal: stop.signal, onProgress };
    return Univi.create(/** @type {UniviOptions} */ (given)).then(
      () => "loaded",
      (error) => error.name,
    );
  }, options);
  assert.equal(aborted, "AbortError");
  const found = await inPage(
    ({ Univi }, options) => Univi.availability(/** @type {UniviOptions} */ (options)),
    options,
  );
  const { fetchedBytes = 0, fetchBytes = 0 } = found.conversion ?? {};
  assert.ok(fetchedBytes > 0 && fetchedBytes < fetchBytes, `${fetchedBytes} of ${fetchBytes}`);

  const before = await hub.sentBytes();
  const loaded = await inPage(async ({ Univi }, options) => {
    const univi = await Univi.create(/** @type {UniviOptions} */ (options));
    univi.dispose();
    return univi.info.bytes;
  }, options);
  const expected = await commandLine("f16", checkpoint);
  assert.equal(
    loaded,
    expected.reduce((sum, [, bytes]) => sum + bytes, 0),
  );
  assert.deepEqual(await keptFiles(), expected);
  const fetched = (await hub.sentBytes()) - before;
  assert.ok(fetched < fetchBytes - fetchedBytes + 2e6, `${fetched} of ${fetchBytes} again`);
});

test("what breaks or comes wrong is fetched again, what is refused is said", async (t) => {
  const hub = await hubOf(t);
  const expected = await commandLine("f16");
  const name = "pytorch_model-00001-of-00002.bin";
  /** @param {import("./hub.mjs").HubFault[]} faults */
  const converts = async (...faults) => {
    await inPage((univi) => univi.clearCache());
    await hub.faults(...faults);
    assert.equal((await load(hub)).error, undefined);
    assert.deepEqual(await keptFiles(), expected);
  };
  await converts({ path: name, times: 3, kind: "drop", bytes: 1000 });
  await converts({ path: "/resolve/", times: 2, kind: "status", status: 503 });
  await converts({ path: "/api/", times: 1, kind: "status", status: 429, retry_after_s: 1 });
  // The archives' checksums find a byte that was changed on its way, in what was read to plan or in
  // a tensor; those of the plan are refused, since they may be anything.
  // Small files have names in Git.
  /** @type {[string, number, RegExp][]} */
  const changes = [
    [name, 200_000, /checksum/],
    ["config.json", 3, /Git's SHA-1/],
  ];
  for (const [path, at, says] of changes) {
    await inPage((univi) => univi.clearCache());
    await hub.faults({ path, kind: "corrupt", at });
    const { error } = await load(hub);
    assert.equal(error?.code, "bad-file");
    assert.match(error?.message ?? "", says);
    assert.deepEqual(await keptFiles(), []);
  }
  await hub.faults();
  assert.equal((await load(hub)).error, undefined);
  assert.deepEqual(await keptFiles(), expected);

  /** @type {[Partial<import("./hub.mjs").HubFault>, RegExp][]} */
  const refusals = [
    [{ kind: "ignore-range" }, /knows no ranges/],
    [{ kind: "status", status: 401 }, /private, gated, or not there.*token/],
    [{ kind: "status", status: 403 }, /gated; agree to its terms/],
    [{ kind: "status", status: 404 }, /there is no such repository, revision or file/],
  ];
  for (const [fault, says] of refusals) {
    await inPage((univi) => univi.clearCache());
    const path = fault.kind === "status" ? "/api/" : name;
    await hub.faults(/** @type {import("./hub.mjs").HubFault} */ ({ path, ...fault }));
    const { error } = await load(hub);
    assert.equal(error?.code, "io");
    assert.match(error?.message ?? "", says);
  }
});

test("a token reaches the Hub, and not where it keeps files", async (t) => {
  const hub = await hubOf(t, ["--token", "hf_secret", "--gated", "tests/checkpoint"]);
  const { error } = await load(hub);
  assert.match(error?.message ?? "", /gated; agree to its terms on its page, and pass/);
  assert.equal((await load(hub, { token: "hf_secret" })).error, undefined);
  const requests = await hub.requests();
  const stored = requests.filter(({ is_storage }) => is_storage);
  assert.ok(stored.length > 0);
  assert.ok(stored.every(({ has_token, method }) => !has_token && method === "GET"));
});

test("what can't work is refused before any weights are fetched", async (t) => {
  const hub = await hubOf(t);
  const nothingStored = async () => {
    const stored = (await hub.requests()).filter(({ is_storage }) => is_storage);
    assert.deepEqual(stored, []);
  };
  const refused = async (/** @type {Parameters<typeof load>[1]} */ options) => {
    const { error } = await load(hub, options);
    return `${error?.code}: ${error?.message}`;
  };
  assert.match(await refused({ quantization: "q9" }), /^bad-request: .*q9/);
  assert.match(await refused({ cache: "none" }), /^bad-request: .*kept in OPFS/);
  assert.match(await refused({ model: "hf:nobody" }), /^bad-request: .*hf:OWNER\/NAME/);
  assert.match(await refused({ model: "hf:tests/../x" }), /^bad-request/);
  assert.match(await refused({ model: "hf:tests/none" }), /^io: .*private, gated, or not there/);
  assert.match(await refused({ model: `${MODEL}/none.gguf` }), /^io: .*no file none.gguf/);
  assert.match(await refused({ hubEndpoint: "no address" }), /^bad-request: .*hubEndpoint/);
  assert.match(await refused({ allowedOrigins: [opened.url] }), /^io: .*allowedOrigins/);
  await nothingStored();

  // As in a private window of Firefox.
  const policy = "The operation is insecure.";
  await opened.page.route("**/dist/conversion-worker.js", async (route) => {
    const response = await route.fetch();
    const forbid = `navigator.storage.getDirectory = async () => {
      throw new DOMException("${policy}", "SecurityError");
    };`;
    await route.fulfill({ response, body: `${forbid}\n${await response.text()}` });
  });
  t.after(() => opened.page.unroute("**/dist/conversion-worker.js"));
  assert.match(await refused({}), /^io: .*private window/);
  await nothingStored();
});

test("a model that was converted before is loaded from the Hub, once", async (t) => {
  const hub = await hubOf(t, [], { "tests/nano": join(MODELS, "univi-nano") });
  const model = "hf:tests/nano@main";
  const question = "What is there?";
  const published = { model, question, asPublished: true };
  const refused = async () => (await load(hub, { model, question })).error;
  const says = /^quantization is for checkpoints, and hf:tests[/]nano@main is converted already/;
  assert.match((await refused())?.message ?? "", says);
  const first = await load(hub, published);
  assert.equal(first.error, undefined);
  const before = await hub.requests();
  assert.ok(before.some(({ path }) => /[/]resolve[/][0-9a-f]{40}[/]manifest.json$/.test(path)));
  const second = await load(hub, published);
  assert.equal(second.text, first.text);
  // Nor from what is kept.
  assert.equal((await refused())?.code, "bad-request");
  assert.equal(await asked(hub), before.length);
});

test("univi-nano's checkpoint, its tower elsewhere, answers the samples as it ships", async (t) => {
  const root = await nanoCheckpoint("tests");
  const repositories = Object.fromEntries(
    ["tests/univi-nano", "tests/univi-nano-tower"].map((name) => [name, join(root, name)]),
  );
  const hub = await hubOf(t, [], repositories);
  /** @type {{ file: string, questions: [string, string][] }[]} */
  const samples = JSON.parse(
    await readFile(new URL("./nano-samples.json", import.meta.url), "utf8"),
  );
  const options = { model: "hf:tests/univi-nano", quantization: "q8_0", hubEndpoint: hub.url };
  const answers = await inPage(
    async ({ Univi }, { options, samples }) => {
      const univi = await Univi.create({ device: "cpu", ...options });
      /** @type {[string, string][][]} */
      const all = [];
      for (const { file, questions } of samples) {
        const url = `/samples/${file}`;
        const part = file.endsWith(".webm") ? { video: url } : { image: url };
        /** @type {[string, string][]} */
        const answers = [];
        for (const [question] of questions)
          answers.push([question, await univi.ask([part, question], { temperature: 0 }).text()]);
        all.push(answers);
      }
      univi.dispose();
      return all;
    },
    { options, samples },
  );
  assert.deepEqual(
    answers,
    samples.map(({ questions }) => questions),
  );
});

test("a file that the browser lost is made again, and no other", async (t) => {
  const hub = await hubOf(t);
  assert.equal((await load(hub)).error, undefined);
  const files = await keptFiles();
  const [lost] = files;
  await inPage(async (_, name) => {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("univi");
    await folder.removeEntry(name);
  }, `file-${lost?.[0]}`);
  const before = await hub.sentBytes();
  assert.equal((await load(hub)).error, undefined);
  assert.deepEqual(await keptFiles(), files);
  const again = (await hub.sentBytes()) - before;
  assert.ok(again < before, `${again} again`);
});
