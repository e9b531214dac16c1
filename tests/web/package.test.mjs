/**
 * The package as a page uses it, in Chromium: pictures, clips, conversations, and all that goes
 * wrong.
 */
import assert from "node:assert/strict";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openPage } from "./chromium.mjs";
import {
  clipOf,
  FIXTURES,
  MODELS,
  OUTPUT,
  realModel,
  referenceAnswer,
  tinyModel,
} from "./fixtures.mjs";

const MODEL = `/output/${await tinyModel()}/manifest.json`;

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
before(async () => {
  opened = await openPage();
  await opened.page.evaluate(async () => {
    const univi = await import(`${location.origin}/pkg/dist/index.js`);
    const { file, fails } = await import(`${location.origin}/in-page.mjs`);
    Object.assign(globalThis, { univi, file, fails });
  });
});
after(() => opened.close());

/**
 * What the page offers to what runs in it: the package, files by their address, and what a failure
 * throws.
 *
 * @typedef {object} Page
 * @property {typeof import("univi").Univi} Univi
 * @property {(path: string, type?: string) => Promise<File>} file
 * @property {(work: () => Promise<unknown>) => Promise<{ name: string, code?: string, message:
 * string }>} fails
 */

/**
 * Runs `work` in the page, with `argument`.
 *
 * @template A
 * @template R
 * @param {(page: Page, argument: A) => Promise<R>} work
 * @param {A} argument
 * @returns {Promise<R>}
 */
function inPage(work, argument) {
  return opened.page.evaluate(`(${work})({ ...univi, file, fails }, ${JSON.stringify(argument)})`);
}

for (const device of /** @type {const} */ (["webgpu", "cpu"])) {
  test(`a picture is answered as by the reference, ${device}`, async () => {
    const { question, template, answer, tokens, files } = await referenceAnswer("image_qa");
    const given = {
      device,
      question,
      template,
      tokens,
      model: MODEL,
      path: `/fixtures/${files[0]}`,
    };
    const said = await inPage(
      async ({ Univi, file }, { device, question, template, tokens, model, path }) => {
        /** @type {{ phase: string, loaded: number, total: number }[]} */
        const heard = [];
        const univi = await Univi.create({
          model,
          device,
          cache: "none",
          onProgress: ({ phase, loaded, total }) => heard.push({ phase, loaded, total }),
        });
        const picture = await file(path);
        const answer = univi
          .session({ template })
          .ask([picture, question], { temperature: 0, maxTokens: tokens });
        const text = await answer.text();
        const [tokenMap] = await answer.tokenMaps();
        univi.dispose();
        const stages = tokenMap?.events[0]?.stages.map((stage) => stage.tokens);
        const phases = [...new Set(heard.map(({ phase }) => phase))];
        return {
          text,
          usage: answer.usage,
          kind: tokenMap?.kind,
          stages,
          info: univi.info,
          phases,
          last: heard.at(-1),
        };
      },
      given,
    );
    assert.equal(said.text, answer);
    assert.equal(said.info.device, device);
    assert.equal(said.info.vision, true);
    assert.equal(said.usage?.visualTokens, 112);
    assert.equal(said.usage?.completionTokens, tokens);
    assert.equal(said.kind, "image");
    assert.deepEqual(said.stages, [64, 32, 16]);
    assert.deepEqual(said.phases, ["manifest", "download", "upload", "compile", "ready"]);
    const { last } = said;
    assert.ok(
      last && last.loaded === last.total && last.total === said.info.bytes,
      JSON.stringify(last),
    );
  });
}

test("a clip is answered as by the reference", async () => {
  const { question, template, answer, tokens, files } = await referenceAnswer("video_qa");
  const path = `/output/${await clipOf(files, "e2e.webm")}`;
  const given = { question, template, tokens, model: MODEL, path, frames: files.length };
  const said = await inPage(
    async ({ Univi, file }, { question, template, tokens, model, path }) => {
      const univi = await Univi.create({ model, device: "webgpu" });
      const clip = await file(path, "video/webm");
      const answer = univi
        .session({ template })
        .ask([clip, question], { temperature: 0, maxTokens: tokens });
      const text = await answer.text();
      const [tokenMap] = await answer.tokenMaps();
      univi.dispose();
      return {
        text,
        kind: tokenMap?.kind,
        times: tokenMap?.frames.map((frame) => frame.timeSeconds),
      };
    },
    given,
  );
  assert.equal(said.kind, "clip");
  assert.deepEqual(
    said.times,
    files.map((_, index) => index),
  );
  assert.equal(said.text, answer);
});

test("a conversation remembers, can be stopped, and goes on", async () => {
  const { question, tokens, files } = await referenceAnswer("image_qa");
  const given = { question, tokens, model: MODEL, path: `/fixtures/${files[0]}` };
  const said = await inPage(async ({ Univi, file, fails }, { question, model, path }) => {
    const univi = await Univi.create({ model });
    const greedy = { temperature: 0, maxTokens: 8 };
    const picture = await file(path);
    const session = univi.session();
    const first = session.ask([picture, question], greedy);
    await first.text();
    const second = session.ask("And then?", greedy);
    await second.text();

    // The same without having been asked to stop in between.
    const alone = univi.session();
    await alone.ask([picture, question], greedy).text();
    const stop = new AbortController();
    const stopped = await fails(async () => {
      for await (const _ of alone.ask("Tell me everything.", {
        ...greedy,
        maxTokens: 1000,
        signal: stop.signal,
      }))
        stop.abort();
    });
    const left = univi.session();
    for await (const _ of left.ask("Tell me everything.", { ...greedy, maxTokens: 1000 })) break;
    const before = await fails(() => univi.ask("Hello?", { signal: AbortSignal.abort() }).text());
    const after = univi.ask([picture, question], greedy);
    await after.text();
    const disposed = await fails(() => {
      univi.dispose();
      univi.dispose();
      return session.ask("Are you there?").text();
    });
    return {
      first: first.usage,
      second: second.usage,
      stopped,
      before,
      after: after.usage,
      disposed,
    };
  }, given);
  assert.ok(said.first && said.second && said.after);
  assert.equal(said.second.visualTokens, 112);
  // What was read and said before is not read again.
  assert.ok(said.second.reusedTokens >= said.first.promptTokens, JSON.stringify(said));
  assert.equal(said.stopped.name, "AbortError");
  assert.equal(said.before.name, "AbortError");
  assert.equal(said.after.completionTokens, said.first.completionTokens);
  assert.equal(said.disposed.code, "bad-request");
});

test("pictures of every kind are seen alike", async () => {
  const { question, files } = await referenceAnswer("image_qa");
  const given = { question, model: MODEL, path: `/fixtures/${files[0]}` };
  const answers = await inPage(async ({ Univi, file }, { question, model, path }) => {
    const univi = await Univi.create({ model, device: "webgpu" });
    const picture = await file(path, "image/png");
    const bitmap = () =>
      createImageBitmap(picture, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const still = await bitmap();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [still.width, still.height];
    const context = canvas.getContext("2d");
    if (!context) throw new Error("no canvas");
    context.drawImage(still, 0, 0);
    const image = new Image();
    image.src = path;
    await image.decode();
    const kinds = {
      file: picture,
      blob: new Blob([await picture.arrayBuffer()]),
      url: new URL(path, location.href),
      canvas,
      imageData: context.getImageData(0, 0, canvas.width, canvas.height),
      bitmap: await bitmap(),
      element: image,
      videoFrame: new VideoFrame(canvas, { timestamp: 0 }),
    };
    /** @type {Record<string, string>} */
    const answers = {};
    for (const [kind, part] of Object.entries(kinds))
      answers[kind] = await univi.ask([part, question], { temperature: 0, maxTokens: 6 }).text();
    univi.dispose();
    return answers;
  }, given);
  const [first, ...others] = Object.entries(answers);
  for (const [kind, answer] of others) assert.equal(answer, first?.[1], kind);
});

// Short answers that the model ends itself: SwiftShader takes seven seconds a token.
for (const [device, name] of /** @type {const} */ ([
  ["webgpu", "france"],
  ["cpu", "system"],
])) {
  test(`a language model of others says what exact arithmetic gives, ${device}`, async () => {
    const model = await realModel("gguf/smollm2/expected.json");
    const { prompts } = JSON.parse(
      await readFile(join(FIXTURES, "gguf/smollm2/expected.json"), "utf8"),
    );
    const {
      messages,
      exact_f32: { text, greedy },
    } = prompts[name];
    const asked = {
      system: messages.find((/** @type {{ role: string }} */ { role }) => role === "system")
        ?.content,
      question: messages.at(-1).content,
      tokens: greedy.length,
    };
    const picture = `/fixtures/${(await referenceAnswer("image_qa")).files[0]}`;
    const said = await inPage(
      async (
        { Univi, fails, file },
        { device, model, asked: { system, question, tokens }, picture },
      ) => {
        const univi = await Univi.create({ model: `/models/${model}`, device, contextLength: 512 });
        const session = univi.session(system === undefined ? {} : { system });
        const answer = await session.ask(question, { temperature: 0, maxTokens: tokens }).text();
        const { info } = univi;
        const blind = await fails(async () =>
          univi.ask([await file(picture), "What is this?"]).text(),
        );
        univi.dispose();
        return { answer, info, blind };
      },
      { device, model, asked, picture },
    );
    assert.equal(said.answer, text);
    assert.equal(said.info.vision, false);
    assert.equal(said.info.contextLength, 512);
    assert.equal(said.blind.code, "bad-request");
  });
}

test("a model that can't be loaded says why", async () => {
  const shard = (await readFile(join(OUTPUT, MODEL.slice("/output/".length)), "utf8")).match(
    /"path": *"([^"]*\.gguf)"/,
  )?.[1];
  assert.ok(shard);
  await writeFile(join(OUTPUT, "words.gguf"), "just some words");
  await writeFile(join(OUTPUT, "page.gguf.html"), "<p>Not found</p>");
  const bytes = await readFile(join(OUTPUT, "chat-univi-tiny", shard));
  await writeFile(join(OUTPUT, "cut.gguf"), bytes.subarray(0, bytes.length - 100));
  await writeFile(
    join(OUTPUT, "huge.gguf"),
    Buffer.concat([bytes.subarray(0, 8), Buffer.alloc(16, 0x7f)]),
  );
  await writeFile(join(OUTPUT, "manifest-cut.json"), "{");
  const manifest = await readFile(join(OUTPUT, "chat-univi-tiny/manifest.json"), "utf8");
  const digest = /"sha256": *"([0-9a-f]{64})"/.exec(manifest)?.[1] ?? "";
  await writeFile(
    join(OUTPUT, "chat-univi-tiny/wrong-hash.json"),
    manifest.replace(digest, digest.replace(/./g, "0")),
  );
  const models = {
    "/output/absent/manifest.json": ["io", "404"],
    "http://localhost:9/manifest.json": ["io", "reached"],
    "/output/words.gguf": ["bad-file", "words.gguf"],
    "/output/page.gguf.html": ["bad-file", "web page"],
    "/output/cut.gguf": ["bad-file", "cut.gguf"],
    "/output/huge.gguf": ["bad-file", "huge.gguf"],
    "/output/manifest-cut.json": ["bad-file", "manifest-cut.json"],
    "/output/chat-univi-tiny/wrong-hash.json": ["wrong-hash", "SHA-256"],
  };
  const thrown = await inPage(async ({ Univi, fails }, models) => {
    /** @type {Record<string, { name: string, code?: string, message: string }>} */
    const thrown = {};
    for (const model of models)
      thrown[model] = await fails(() => Univi.create({ model, device: "cpu" }));
    thrown["no files"] = await fails(() => Univi.create({ model: [] }));
    thrown["a picture"] = await fails(() =>
      Univi.create({ model: [new File(["x"], "photo.png")] }),
    );
    return thrown;
  }, Object.keys(models));
  for (const [model, [code, says]] of Object.entries({
    ...models,
    "no files": ["bad-request", "folder"],
    "a picture": ["bad-request", "manifest.json"],
  })) {
    const { name, code: found, message } = thrown[model] ?? { name: "nothing", message: "" };
    assert.equal(name, "UniviError", `${model}: ${message}`);
    assert.equal(found, code, `${model}: ${message}`);
    assert.ok(message.includes(says ?? ""), `${model}: ${message}`);
  }
});

test("a model whose header is wrong says what is wrong", async () => {
  const [name] = (await readdir(join(MODELS, "univi-nano"))).filter((name) =>
    name.startsWith("univi-nano-q8_0-"),
  );
  const whole = await readFile(join(MODELS, "univi-nano", name ?? ""));
  /**
   * The model with something written `behind` bytes after a name in its header. @param {string}
   * text @param {number} behind @param {number} value
   */
  const withNumber = (text, behind, value) => {
    const bytes = Buffer.from(whole);
    bytes.writeUInt32LE(value, bytes.indexOf(text) + text.length + behind);
    return bytes;
  };
  /** @type {Record<string, [Buffer, string]>} */
  const cases = {
    "no heads": [withNumber("llama.attention.head_count", 4, 0), "bad-metadata"],
    "more layers than there are": [withNumber("llama.block_count", 4, 9), "missing-tensor"],
    "another width": [withNumber("llama.feed_forward_length", 4, 444), "wrong-shape"],
    "a type that nobody knows": [withNumber("token_embd.weight", 4 + 16, 99), "unsupported-type"],
    "a score that is no number": [
      withNumber("tokenizer.ggml.scores", 4 + 4 + 8, 0x7fc00000),
      "bad-tokenizer",
    ],
  };
  await mkdir(join(OUTPUT, "headers"), { recursive: true });
  for (const [what, [bytes, code]] of Object.entries(cases)) {
    await writeFile(join(OUTPUT, "headers/model.gguf"), bytes);
    const thrown = await inPage(
      ({ Univi, fails }) =>
        fails(() =>
          Univi.create({ model: "/output/headers/model.gguf", device: "cpu", cache: "none" }),
        ),
      {},
    );
    assert.equal(thrown.code, code, `${what}: ${thrown.message}`);
    assert.match(thrown.message, /^model\.gguf: /, what);
  }
});

test("a GPU that is software is left alone, unless it is asked for", async () => {
  const [info, about, asked] = await inPage(
    async ({ Univi }, { model }) => {
      const univi = await Univi.create({ model });
      univi.dispose();
      const about = await Univi.availability({ model });
      return [univi.info, about, await Univi.availability({ model, device: "webgpu" })];
    },
    { model: MODEL },
  );
  for (const { device, deviceReason } of [info, about]) {
    assert.equal(device, "cpu");
    assert.match(deviceReason ?? "", /software/);
  }
  assert.equal(asked.device, "webgpu");
  assert.equal(asked.deviceReason, undefined);
});

test("no GPU is told, and so is one that goes away; both leave a way on", async () => {
  const told = await inPage(
    async ({ Univi, fails }, { model }) => {
      const gpu = navigator.gpu;
      Object.defineProperty(navigator, "gpu", { value: undefined, configurable: true });
      const none = await fails(() => Univi.create({ model, device: "webgpu", worker: false }));
      const instead = await Univi.create({ model, worker: false });
      instead.dispose();
      Object.defineProperty(navigator, "gpu", { value: gpu, configurable: true });

      /** @type {GPUDevice[]} */
      const devices = [];
      const request = GPUAdapter.prototype.requestDevice;
      GPUAdapter.prototype.requestDevice = async function (
        /** @type {GPUDeviceDescriptor | undefined} */ descriptor,
      ) {
        const device = await request.call(this, descriptor);
        devices.push(device);
        return device;
      };
      const univi = await Univi.create({ model, device: "webgpu", worker: false });
      const session = univi.session();
      const ask = () => session.ask("What?", { maxTokens: 2, temperature: 0 }).text();
      const before = await ask();
      for (const device of devices) device.destroy();
      const lost = await fails(ask);
      univi.dispose();
      GPUAdapter.prototype.requestDevice = request;
      const again = await Univi.create({ model, device: "webgpu", worker: false });
      const after = await again.ask("What?", { maxTokens: 2, temperature: 0 }).text();
      again.dispose();
      return { none, instead: instead.info, lost, before, after };
    },
    { model: MODEL },
  );
  assert.equal(told.none.code, "no-gpu", told.none.message);
  assert.equal(told.instead.device, "cpu");
  assert.match(told.instead.deviceReason ?? "", /navigator\.gpu/);
  assert.equal(told.lost.code, "device-lost", told.lost.message);
  assert.equal(told.after, told.before);
});

test("a question that can't be answered says why, and the next one is", async () => {
  const thrown = await inPage(
    async ({ Univi, fails }, { model }) => {
      const univi = await Univi.create({ model });
      const ask = (/** @type {import("univi").Part[]} */ ...parts) =>
        fails(() => univi.ask(parts, { maxTokens: 2 }).text());
      const long = "word ".repeat(20_000);
      const thrown = {
        "zero bytes": await ask(new File([], "empty.png"), "What?"),
        "a text file": await ask(new File(["just words"], "notes.png"), "What?"),
        "an absent picture": await ask(new URL("/output/absent.png", location.href), "What?"),
        "a clip of words": await ask(
          new File(["just words"], "notes.mp4", { type: "video/mp4" }),
          "What?",
        ),
        "an empty clip": await ask(new File([], "empty.webm", { type: "video/webm" }), "What?"),
        "a cut animation": await ask(
          { video: new File(["GIF89a\u0001\u0000"], "cut.gif", { type: "image/gif" }) },
          "What?",
        ),
        "too long a question": await ask(long),
        "no such template": await fails(() =>
          univi.session({ template: "none" }).ask("What?").text(),
        ),
        "a negative number": await fails(() => univi.ask("What?", { maxTokens: -1 }).text()),
        "a long context": await fails(() => Univi.create({ model, contextLength: 1 << 30 })),
        "a quantization of what is converted": await fails(() =>
          Univi.create({ model, quantization: "q4_0" }),
        ),
        fine: await ask("What?"),
      };
      univi.dispose();
      return thrown;
    },
    { model: MODEL },
  );
  const expected = {
    "zero bytes": ["bad-image", "empty.png"],
    "a text file": ["bad-image", "notes.png"],
    "an absent picture": ["io", "404"],
    "a clip of words": ["bad-video", "notes.mp4"],
    "an empty clip": ["bad-video", "empty.webm"],
    "a cut animation": ["bad-video", "cut.gif"],
    "too long a question": ["context-overflow", "tokens"],
    "no such template": ["bad-request", "none"],
    "a negative number": ["bad-request", "maxTokens"],
    "a long context": ["bad-request", "context"],
    "a quantization of what is converted": ["bad-request", "quantization"],
  };
  for (const [what, [code, says]] of Object.entries(expected)) {
    const { code: found, message } = thrown[/** @type {keyof typeof expected} */ (what)];
    assert.equal(found, code, `${what}: ${message}`);
    assert.ok(message.includes(says ?? ""), `${what}: ${message}`);
  }
  assert.equal(thrown.fine.name, "nothing", thrown.fine.message);
});

test("loading can be stopped", async () => {
  const { name } = await inPage(
    ({ Univi, fails }, { model }) => {
      const stop = new AbortController();
      return fails(() =>
        Univi.create({
          model,
          cache: "none",
          signal: stop.signal,
          onProgress: ({ phase }) => phase === "download" && stop.abort(),
        }),
      );
    },
    { model: MODEL },
  );
  assert.equal(name, "AbortError");
});
