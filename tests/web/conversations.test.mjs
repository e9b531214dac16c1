/**
 * Conversations, chat completions and what is watched, in Chromium, with the model that ships:
 * answers are right, not only there.
 */
/**
 * @typedef {import("univi/elements").UniviTokensElement} Tokens Brings the elements to the
 * compiler.
 */
import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { CAMERA, openPage } from "./chromium.mjs";
import { MODELS } from "./fixtures.mjs";

/** @param {string} path From the repository's root. */
const folder = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const FOLDERS = {
  "/": folder("tests/web/"),
  "/models/": `${MODELS}/`,
  "/pkg/": folder("pkg/"),
  "/samples/": folder("www/public/samples/"),
};

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
before(async () => {
  opened = await openPage({ folders: FOLDERS, flags: CAMERA });
  opened.page.setDefaultTimeout(0);
  await opened.page.evaluate(async () => {
    const univi = await import(`${location.origin}/pkg/dist/index.js`);
    const { file: fetched, fails } = await import(`${location.origin}/in-page.mjs`);
    const file = (/** @type {string} */ name, type = "") => fetched(`/samples/${name}`, type);
    /** @type {Record<string, Promise<import("univi").Univi>>} */
    const models = {};
    const load = (/** @type {"webgpu" | "cpu"} */ device) =>
      (models[device] ??= univi.Univi.create({
        model: "/models/univi-nano/manifest.json",
        device,
      }));
    /** A canvas on which a sample stands. */
    const drawn = async (/** @type {string} */ name) => {
      const bitmap = await createImageBitmap(await file(name));
      const canvas = Object.assign(document.createElement("canvas"), {
        width: bitmap.width,
        height: bitmap.height,
      });
      /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")).drawImage(bitmap, 0, 0);
      return canvas;
    };
    Object.assign(globalThis, { univi: { ...univi, file, fails, load, drawn } });
  });
});
after(() => opened.close());

/**
 * @typedef {object} Page
 * @property {typeof import("univi").Univi} Univi
 * @property {(device: "webgpu" | "cpu") => Promise<import("univi").Univi>} load One for all tests.
 * @property {(name: string, type?: string) => Promise<File>} file
 * @property {(name: string) => Promise<HTMLCanvasElement>} drawn
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
  opened.page.evaluate(`(${work})(univi, ${JSON.stringify(argument)})`);

test("availability is told before anything is fetched, and again afterwards", async () => {
  const said = await inPage(async ({ Univi }) => {
    const ask = (/** @type {object} */ more) =>
      Univi.availability({ model: "/models/univi-nano/manifest.json", device: "cpu", ...more });
    const before = await ask({});
    const univi = await Univi.create({ model: "/models/univi-nano/manifest.json", device: "cpu" });
    univi.dispose();
    const picked = await fetch("/models/univi-nano/manifest.json");
    const files = [new File([await picked.blob()], "manifest.json")];
    return {
      before,
      bytes: univi.info.bytes,
      after: await ask({}),
      local: await ask({ model: files }),
      missing: await ask({ model: "/models/nothing/manifest.json" }),
      long: await ask({ contextLength: 100_000 }),
      device: await ask({ device: /** @type {any} */ ("quantum") }),
      gguf: await ask({ model: "/models/univi-nano/univi-nano-q8_0-00001-of-00001.gguf" }),
      gone: await ask({ model: "/models/univi-nano/gone.gguf" }),
    };
  });
  const { before, bytes, after, local, missing, long, device, gguf, gone } = said;
  const { size } = await stat(join(MODELS, "univi-nano/univi-nano-q8_0-00001-of-00001.gguf"));
  assert.equal(gguf.bytes, size, "a server tells how long a file without a manifest is");
  assert.deepEqual([gone.name, gone.bytes], ["gone.gguf", undefined]);
  const name = "univi-nano";
  const adapter = "WebAssembly, one thread";
  assert.deepEqual(before, {
    status: "downloadable",
    name,
    device: "cpu",
    adapter,
    bytes,
    cachedBytes: 0,
  });
  assert.deepEqual(after, {
    status: "available",
    name,
    device: "cpu",
    adapter,
    bytes,
    cachedBytes: bytes,
  });
  assert.equal(local.status, "available");
  assert.deepEqual([missing.status, missing.code], ["unavailable", "io"]);
  assert.deepEqual([long.status, long.code], ["unavailable", "bad-request"]);
  assert.match(long.reason ?? "", /1 to 1024/);
  assert.deepEqual([device.status, device.code], ["unavailable", "bad-request"]);
});

test("a follow-up reads its own words alone, and the context is told", async () => {
  const said = await inPage(async ({ load, file }) => {
    const univi = await load("webgpu");
    const session = univi.session();
    const [greedy, before] = [{ temperature: 0 }, session.contextUsage];
    const first = session.ask(
      [await file("penguin-cookie.png"), "What is there from left to right?"],
      greedy,
    );
    const list = await first.text();
    const after = session.contextUsage;
    const second = session.ask("What colour is the background?", greedy);
    const colour = await second.text();
    session.dispose();
    return { list, colour, before, after, first: first.usage, second: second.usage };
  });
  assert.equal(said.list, "penguin and cookie");
  assert.equal(said.colour, "red");
  assert.deepEqual(said.before, { used: 0, capacity: 1024 });
  assert.ok(
    said.first && said.second && said.after.used >= said.first.promptTokens,
    JSON.stringify(said),
  );
  // What is new are the question and how roles are written down, not the picture.
  const read = said.second.promptTokens - said.second.reusedTokens;
  assert.ok(read < 30 && said.first.visualTokens === 42, `${read} tokens were read again`);
  assert.ok(said.first.prefillTokensPerSecond > 0 && said.first.timeToFirstTokenMs > 0);
});

test("what is appended is read before the question, and a clone goes its own way", async () => {
  const said = await inPage(async ({ load, file }) => {
    const univi = await load("webgpu");
    const greedy = { temperature: 0 };
    const session = univi.session();
    const read = await session.append([await file("trophies-bee.png")]);
    const [tokenMap] = await read.tokenMaps();
    const appended = session.contextUsage.used;
    const clone = await session.clone();
    const [count, where] = [
      session.ask("How many trophies are there?", greedy),
      clone.ask("Where is the bee?", greedy),
    ];
    // Both at once: neither gets in the other's way.
    const texts = await Promise.all([count.text(), where.text()]);
    const used = [session.contextUsage.used, clone.contextUsage.used];
    session.dispose();
    clone.dispose();
    return {
      texts,
      tokens: tokenMap?.tokens,
      appended,
      reused: [count.usage?.reusedTokens, where.usage?.reusedTokens],
      used,
    };
  });
  assert.deepEqual(said.texts, ["2", "bottom right"]);
  assert.equal(said.tokens, 42);
  for (const reused of said.reused)
    assert.ok(reused !== undefined && reused >= 42, `${reused} tokens had been read`);
  for (const used of said.used) assert.ok(used > said.appended);
});

test("a conversation is taken back, and begun with a past", async () => {
  for (const device of /** @type {const} */ (["cpu", "webgpu"])) {
    const told = await inPage(async ({ load, file, fails }, device) => {
      const univi = await load(device);
      const photo = await file("train-zebra.png");
      const ask = async (
        /** @type {import("univi").Session} */ session,
        /** @type {import("univi").Part[]} */ ...parts
      ) => {
        const answer = session.ask(parts, { temperature: 0, maxTokens: 12 });
        return { text: await answer.text(), usage: answer.usage };
      };
      const lived = univi.session();
      await ask(lived, photo, "What is there from left to right?");
      const once = await ask(lived, "Can you see a whale?");
      await lived.rewind(1);
      const again = await ask(lived, "Can you see a zebra?");
      /** @type {import("univi").ChatMessage[]} */
      const messages = [
        { role: "user", content: [photo, "What is there from left to right?"] },
        { role: "assistant", content: "train and zebra" },
      ];
      const told = univi.session({ messages });
      const stopped = new AbortController();
      stopped.abort();
      const aborted = await fails(() =>
        told.ask("Can you see a zebra?", { signal: stopped.signal }).text(),
      );
      const first = await ask(told, "Can you see a zebra?");
      const unread = univi.session({
        messages: [
          ...messages,
          { role: "user", content: "Can you see a whale?" },
          { role: "assistant", content: "no" },
        ],
      });
      await unread.rewind(1);
      const shorter = await ask(unread, "Can you see a zebra?");
      const wrong = await fails(() => lived.rewind(-1));
      for (const session of [lived, told, unread]) session.dispose();
      return { once, again, aborted, first, shorter, wrong };
    }, device);
    assert.equal(told.once.text, "no", device);
    for (const { text, usage } of [told.again, told.first, told.shorter]) {
      assert.equal(text, "yes", device);
      assert.equal(usage?.visualTokens, 42);
      assert.equal(usage?.promptTokens, told.again.usage?.promptTokens);
    }
    assert.ok((told.again.usage?.reusedTokens ?? 0) > 42, "what stays is not read again");
    assert.equal(told.aborted.name, "AbortError");
    assert.equal(told.wrong.code, "bad-request");
  }
});

test("a picture becomes as many tokens as it may", async () => {
  const told = await inPage(async ({ load, file, fails }) => {
    const univi = await load("cpu");
    const photo = await file("train-zebra.png");
    const clip = await file("unicorn-cake-owl.webm", "video/webm");
    const ask = async (
      /** @type {import("univi").Part} */ part,
      /** @type {number} */ visualTokens,
    ) => {
      const answer = univi.ask([part, "Where is the zebra?"], { temperature: 0, visualTokens });
      await answer.text();
      return {
        stages: (await answer.tokenMaps())[0]?.events[0]?.stages.map(({ tokens }) => tokens),
        read: answer.usage?.visualTokens,
      };
    };
    return {
      few: await ask(photo, 14),
      many: await ask(photo, 84),
      clip: await ask(clip, 14),
      none: await fails(() => ask(photo, 1)),
      half: await fails(() => ask(photo, 13.5)),
    };
  });
  assert.deepEqual(told.few, { stages: [8, 4, 2], read: 14 });
  assert.deepEqual(told.many, { stages: [48, 24, 12], read: 84 });
  assert.deepEqual(told.clip.stages, [8, 4, 2]);
  assert.equal((told.clip.read ?? 1) % 14, 0, `${told.clip.read} tokens for whole events`);
  for (const { code, message } of [told.none, told.half])
    assert.equal(code, "bad-request", message);
  assert.match(told.none.message, /1 visual tokens a picture, expected 3 to 112/);
});

test("a conversation takes the memory that it uses, and less of it in bytes", async () => {
  const said = await inPage(async ({ Univi, file }) => {
    const taken = async (/** @type {import("univi").KvCache} */ kvCache) => {
      const univi = await Univi.create({
        model: "/models/univi-nano/manifest.json",
        device: "webgpu",
        kvCache,
      });
      const picture = await file("trophies-bee.png");
      const ask = async (/** @type {import("univi").Session} */ session) =>
        session.ask([picture, "How many trophies are there?"], { temperature: 0 }).text();
      // What pictures and answers need besides is there from now on.
      const [session, other] = [univi.session(), univi.session()];
      const texts = [await ask(session)];
      const bytes = [(await univi.memory()).gpuBytes];
      const measure = async () => bytes.push((await univi.memory()).gpuBytes);
      texts.push(await ask(other));
      await measure();
      const clone = await other.clone();
      await measure();
      for (let turn = 0; turn < 4; turn++) texts.push(await ask(clone));
      await measure();
      for (const each of [session, other, clone]) each.dispose();
      // Nobody waits for that.
      for (
        let tries = 0;
        tries < 100 && (await univi.memory()).gpuBytes >= (bytes[0] ?? 0);
        tries++
      )
        await new Promise((resolve) => setTimeout(resolve, 20));
      await measure();
      univi.dispose();
      return { texts, bytes };
    };
    return { f32: await taken("f32"), q8: await taken("q8") };
  });
  for (const [type, numberBytes] of /** @type {const} */ ([
    ["f32", 4],
    ["q8", 36 / 32],
  ])) {
    const { texts, bytes } = said[type];
    // Shown the same picture again and again, a model may count otherwise.
    assert.deepEqual(texts.slice(0, 2), ["2", "2"], type);
    // Room for 256 tokens of 1,280 numbers each, give or take a few buffers that are kept for
    // results.
    const short = 256 * 1280 * numberBytes;
    const [one, two, three, long, none] = bytes.map((now) => now - (bytes[0] ?? 0));
    const near = (/** @type {number | undefined} */ found, /** @type {number} */ expected) =>
      assert.ok(
        found !== undefined && Math.abs(found - expected) < 64 * 1024,
        `${type}: ${found}, expected ${expected}: ${bytes}`,
      );
    near(one, 0);
    near(two, short);
    near(three, 2 * short);
    assert.ok(
      long !== undefined && long > 2.2 * short && long < 5 * short,
      `${type}: five turns took ${long}: ${bytes}`,
    );
    assert.ok(
      none !== undefined && none < 0,
      `${type}: three conversations less leave ${none}: ${bytes}`,
    );
  }
});

test("the oldest turns make room where that is asked for, else the question is refused", async () => {
  const said = await inPage(async ({ Univi, file, fails }) => {
    const univi = await Univi.create({
      model: "/models/univi-nano/manifest.json",
      device: "cpu",
      contextLength: 160,
    });
    const greedy = { temperature: 0, maxTokens: 12 };
    const picture = await file("penguin-cookie.png");
    const [refusing, forgetting] = [univi.session(), univi.session({ overflow: "drop-oldest" })];
    const refused = await fails(async () => {
      for (let turn = 0; turn < 4; turn++)
        await refusing.ask([picture, "What colour is the background?"], greedy).text();
    });
    let dropped = 0;
    const texts = [];
    for (let turn = 0; turn < 4; turn++) {
      const answer = forgetting.ask([picture, "What colour is the background?"], greedy);
      texts.push(await answer.text());
      dropped += answer.usage?.droppedTurns ?? 0;
    }
    const wrong = await fails(() =>
      univi
        .session(/** @type {any} */ ({ overflow: "explode" }))
        .ask("Hello?")
        .text(),
    );
    univi.dispose();
    return { refused, dropped, texts, wrong };
  });
  assert.equal(said.refused.code, "context-overflow");
  assert.ok(said.dropped > 0);
  assert.deepEqual(said.texts, ["red", "red", "red", "red"]);
  assert.equal(said.wrong.code, "bad-request");
});

test("chat completions have OpenAI's shapes, and keep what requests have in common", async () => {
  const said = await inPage(async ({ load, file }) => {
    const { completions } = (await load("webgpu")).chat;
    const bytes = new Uint8Array(await (await file("penguin-cookie.png")).arrayBuffer());
    const url = `data:image/png;base64,${btoa(String.fromCharCode(...bytes))}`;
    /** @type {import("univi").ChatCompletionMessage[]} */
    const messages = [
      {
        role: "user",
        content: [
          { type: "image_url", image_url: { url } },
          { type: "text", text: "Where is the cookie?" },
        ],
      },
    ];
    const whole = await completions.create({ messages, temperature: 0, max_tokens: 20 });
    messages.push(whole.choices[0].message, {
      role: "user",
      content: "What colour is the background?",
    });
    const chunks = [];
    for await (const chunk of await completions.create({
      messages,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    }))
      chunks.push(chunk);
    const clip = await completions.create({
      messages: [
        {
          role: "user",
          content: [
            { type: "video", video: await file("unicorn-cake-owl.webm", "video/webm") },
            { type: "text", text: "What appears first?" },
          ],
        },
      ],
      temperature: 0,
    });
    const cut = await completions.create({
      messages: [
        {
          role: "user",
          content: [
            { type: "image", image: await file("penguin-cookie.png") },
            { type: "text", text: "Describe the picture." },
          ],
        },
      ],
      temperature: 0,
      max_tokens: 2,
    });
    return { whole, chunks, clip, cut };
  });
  const { whole, chunks, clip, cut } = said;
  assert.equal(whole.object, "chat.completion");
  assert.match(whole.choices[0].message.content, /^(top|bottom) (left|right)$/);
  assert.equal(whole.choices[0].finish_reason, "stop");
  assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
  assert.equal(whole.usage.prompt_tokens_details.visual_tokens, 42);
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""), "red");
  assert.deepEqual(chunks[0]?.choices[0]?.delta, { role: "assistant", content: "" });
  assert.equal(chunks.at(-2)?.choices[0]?.finish_reason, "stop");
  const usage = chunks.at(-1)?.usage;
  assert.ok(
    usage && usage.prompt_tokens_details.cached_tokens >= whole.usage.prompt_tokens - 1,
    JSON.stringify(usage),
  );
  assert.equal(clip.choices[0].message.content, "unicorn");
  assert.equal(cut.choices[0].finish_reason, "length");
});

test("what completions can't do is refused in a sentence", async () => {
  const codes = await inPage(async ({ load, fails }) => {
    const { completions } = (await load("webgpu")).chat;
    /** @type {any[]} */
    const requests = [
      { messages: [] },
      { messages: [{ role: "assistant", content: "I begin" }] },
      { messages: [{ role: "user", content: "a" }], frequency_penalty: 1 },
      {
        messages: [
          { role: "user", content: [{ type: "image_url", image_url: { url: "http://" } }] },
        ],
      },
      { messages: [{ role: "user", content: [{ type: "audio" }] }] },
      { messages: [{ role: "user", content: "a" }], n: 2 },
      { messages: [{ role: "user", content: "a" }], tools: [{}] },
      { messages: [{ role: "user", content: "a" }], response_format: { type: "xml" } },
      {
        messages: [{ role: "user", content: "a" }],
        response_format: { type: "json_schema", json_schema: { name: "a" } },
      },
      {
        messages: [{ role: "user", content: "a" }],
        response_format: { type: "json_schema", json_schema: { name: "a", schema: { not: {} } } },
      },
    ];
    const failures = [];
    for (const request of requests) failures.push(await fails(() => completions.create(request)));
    const stopped = await fails(() =>
      completions.create(
        { messages: [{ role: "user", content: "a" }] },
        { signal: AbortSignal.abort() },
      ),
    );
    const after = await completions.create({
      messages: [{ role: "user", content: "What is this?" }],
      max_tokens: 1,
    });
    return { failures, stopped, after: after.object };
  });
  for (const { code, message } of codes.failures)
    assert.ok(code === "bad-request" && message.length > 20, `${code}: ${message}`);
  assert.equal(codes.stopped.name, "AbortError");
  assert.equal(codes.after, "chat.completion");
});

test("a stream is watched: its last seconds can be asked about, each frame looked at once", async () => {
  const said = await inPage(async ({ load, drawn, fails }) => {
    const univi = await load("webgpu");
    const [penguin, trophies] = [
      await drawn("penguin-cookie.png"),
      await drawn("trophies-bee.png"),
    ];
    const canvas = Object.assign(document.createElement("canvas"), {
      width: penguin.width,
      height: penguin.height,
    });
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    let scene = penguin;
    const painting = setInterval(() => context.drawImage(scene, 0, 0), 50);
    const stream = canvas.captureStream(20);
    const live = univi.watch(stream, { framesPerSecond: 4, windowSeconds: 30 });
    const greedy = { temperature: 0 };
    const early = live.ask("Can you see a penguin at any time?", greedy); // It waits for the first frame.
    const earlyText = await early.text();
    const until = async (/** @type {number} */ count) => {
      while (live.stats.framesEncoded < count)
        await new Promise((resolve) => setTimeout(resolve, 20));
    };
    await until(6);
    scene = trophies;
    await until(12);
    const later = live.ask("Can you see a bee at any time?", greedy);
    const bee = await later.text();
    const whale = await live.ask("Can you see a whale at any time?", greedy).text();
    const snapshot = await live.tokenMap();
    const { stats } = live;
    live.stop();
    live.stop();
    clearInterval(painting);
    for (const track of stream.getTracks()) track.stop();
    const stopped = await fails(() => live.ask("And now?").text());
    const wrong = await fails(async () => univi.watch(stream, { framesPerSecond: 0 }));
    return {
      earlyText,
      bee,
      whale,
      tokenMap: (await later.tokenMaps())[0],
      snapshot,
      stats,
      stopped,
      wrong,
    };
  });
  assert.equal(said.earlyText, "yes");
  assert.deepEqual([said.bee, said.whale], ["yes", "no"]);
  assert.equal(said.tokenMap?.kind, "clip");
  const times = said.tokenMap?.frames.map((frame) => frame.timeSeconds) ?? [];
  assert.ok(
    times.length >= 12 && times.every((time, i) => time > (times[i - 1] ?? -1)),
    times.join(" "),
  );
  const told = said.snapshot.events.flatMap((event) => event.frames).sort((a, b) => a - b);
  assert.deepEqual(
    told,
    said.snapshot.frames.map((_, i) => i),
    "each frame is part of one event",
  );
  assert.ok(said.stats.encodeMs > 0);
  assert.equal(said.stopped.code, "bad-request");
  assert.equal(said.wrong.code, "bad-request");
});

test("a camera is watched", async () => {
  const said = await inPage(async ({ load }) => {
    const univi = await load("webgpu");
    const camera = await navigator.mediaDevices.getUserMedia({
      video: { width: 320, height: 240 },
    });
    /** @type {number[]} */
    const heard = [];
    const live = univi.watch(camera, {
      framesPerSecond: 5,
      windowSeconds: 1,
      onFrame: ({ timesSeconds }) => heard.push(timesSeconds.length),
    });
    while (heard.length < 15) await new Promise((resolve) => setTimeout(resolve, 20));
    const answer = live.ask("What colour is the background?", { temperature: 0, maxTokens: 8 });
    const text = await answer.text();
    live.stop();
    for (const track of camera.getTracks()) track.stop();
    const frames = (await answer.tokenMaps())[0]?.frames ?? [];
    return {
      text,
      heard,
      frame: frames[0],
      span: (frames.at(-1)?.timeSeconds ?? 0) - (frames[0]?.timeSeconds ?? 0),
    };
  });
  assert.notEqual(said.text, "");
  assert.deepEqual([said.frame?.width, said.frame?.height], [320, 240]);
  assert.ok(
    said.span < 1 && Math.max(...said.heard) <= 6,
    `the window reaches back ${said.span} s; ${said.heard}`,
  );
});

test("a camera or video that ends says so, and is asked about no more", async () => {
  const said = await inPage(async ({ load, fails, file }) => {
    const univi = await load("cpu");
    const sleep = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const camera = await navigator.mediaDevices.getUserMedia({ video: true });
    /** @type {string[]} */
    const errors = [];
    const onError = (/** @type {unknown} */ error) =>
      void errors.push(/** @type {Error} */ (error).message);
    const live = univi.watch(camera, { framesPerSecond: 10, onError });
    /** @type {string[]} */
    const states = [live.state];
    await live.ready();
    states.push(live.state);
    for (const track of camera.getTracks()) track.stop();
    while (errors.length === 0) await sleep(20);
    states.push(live.state);
    await sleep(500); // A frame that was being encoded is done.
    const { framesEncoded } = live.stats;
    await sleep(500);
    const [asked, ready] = [
      await fails(() => live.ask("What colour is the background?").text()),
      await fails(() => live.ready()),
    ];
    const more = live.stats.framesEncoded - framesEncoded;
    const again = await fails(async () => univi.watch(camera));
    live.stop();
    states.push(live.state);

    const video = document.createElement("video");
    video.muted = true;
    video.src = URL.createObjectURL(await file("penguin-moves.webm", "video/webm"));
    await new Promise((resolve) => (video.onloadeddata = resolve));
    const played = univi.watch(video, { framesPerSecond: 10 });
    await played.ready();
    video.currentTime = video.duration;
    await video.play();
    while (!video.ended) await sleep(20);
    while (played.state !== "ended") await sleep(20);
    const over = await fails(() => played.ask("What appears first?").text());
    await video.play(); // From the beginning.
    while (/** @type {string} */ (played.state) !== "watching") await sleep(20);
    played.stop();
    return { states, errors, asked, ready, more, again, over };
  });
  assert.deepEqual(said.states, ["starting", "watching", "ended", "stopped"]);
  assert.equal(said.errors.length, 1, "it is reported once");
  assert.match(said.errors[0] ?? "", /the camera or video has ended/);
  for (const { code, message } of [said.asked, said.ready, said.again, said.over])
    assert.deepEqual([code, message], ["bad-video", said.errors[0]]);
  assert.equal(said.more, 0, "no frame is encoded any more");
});

test("elements show what the model saw, by pointer and by keyboard", async () => {
  const { page } = opened;
  await inPage(async ({ load, file }) => {
    await import(`${location.origin}/pkg/dist/elements.js`);
    const univi = await load("cpu");
    const answer = univi.ask(
      [await file("unicorn-cake-owl.webm", "video/webm"), "What appears first?"],
      { maxTokens: 1 },
    );
    await answer.text();
    const [tokens, events] = [
      document.createElement("univi-tokens"),
      document.createElement("univi-events"),
    ];
    const [tokenMap] = await answer.tokenMaps();
    [tokens.tokenMap, tokens.stage, events.tokenMap] = [tokenMap, 1, tokenMap];
    events.addEventListener("framechange", () => (tokens.frame = events.frame));
    document.body.append(tokens, events);
    return tokenMap?.frames.length;
  });
  await page.getByText("64 patches became 12 tokens.").waitFor();
  const frames = page.locator("univi-events button");
  assert.ok((await frames.count()) >= 4);
  await frames.nth(1).click();
  assert.equal(await page.evaluate(() => document.querySelector("univi-tokens")?.frame), 1);
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.evaluate(() => document.querySelector("univi-tokens")?.frame), 2);
  assert.equal(await frames.nth(2).getAttribute("aria-current"), "true");
  assert.match(
    (await frames.nth(2).getAttribute("aria-label")) ?? "",
    /^Frame at 0:0\d.*, event \d$/,
  );
  await page.locator("univi-tokens canvas").focus();
  await page.keyboard.press("ArrowDown");
  await page.getByText(/Token \d+ of 12 stands for \d+ patch/).waitFor();
  await page.evaluate(() => document.body.replaceChildren());
});

// On the software GPU a frame takes its time.
for (const { device, few, many } of /** @type {const} */ ([
  { device: "cpu", few: 100, many: 1000 },
  { device: "webgpu", few: 40, many: 80 },
])) {
  test(`${many} frames take no more memory than ${few}, ${device}`, async () => {
    const said = await inPage(
      async ({ load, drawn }, { device, few, many }) => {
        const univi = await load(device);
        const canvas = await drawn("penguin-cookie.png");
        const live = univi.watch(canvas.captureStream(60), {
          framesPerSecond: 60,
          windowSeconds: 1,
        });
        const repaint = setInterval(() => canvas.getContext("2d")?.fillRect(0, 0, 1, 1), 10);
        // The least of what is taken while three frames pass: one that is being looked at takes
        // buffers, too.
        const until = async (/** @type {number} */ count) => {
          let least;
          do {
            await new Promise((resolve) => setTimeout(resolve, 50));
            if (live.stats.framesEncoded < count) continue;
            const now = { kept: live.stats.timesSeconds.length, ...(await univi.memory()) };
            if (least === undefined || now.gpuBytes <= least.gpuBytes) least = now;
          } while (least === undefined || live.stats.framesEncoded < count + 3);
          return least;
        };
        const [before, after] = [await until(few), await until(many)];
        live.stop();
        clearInterval(repaint);
        return { before, after };
      },
      /** @type {{ device: "webgpu" | "cpu", few: number, many: number }} */ ({
        device,
        few,
        many,
      }),
    );
    const { before, after } = said;
    // How many frames lie in the window depends on the machine's mood: each is three stages of at
    // most 24 rows of 160 numbers.
    const perFrame = 4 * 160 * (1 + 24 + 12 + 6) * 2 + 4 * 4096;
    const more = Math.max(0, after.kept - before.kept) * perFrame;
    // On the CPU they lie in WebAssembly's memory, between holes; what each frame left behind would
    // be more.
    const holes = device === "cpu" ? more + 512 * 1024 : 0;
    assert.ok(
      after.wasmBytes <= before.wasmBytes + holes,
      `WebAssembly's memory grew from ${before.wasmBytes} to ${after.wasmBytes}, frames from ${before.kept} to ${after.kept}`,
    );
    assert.ok(
      after.gpuBytes <= before.gpuBytes + more,
      `${before.gpuBytes} bytes of buffers for ${before.kept} frames, then ${after.gpuBytes} for ${after.kept}`,
    );
    assert.ok(after.kept <= 61, `${after.kept} frames are kept`);
  });
}

test("without a worker everything runs in this thread", async () => {
  const said = await inPage(async ({ Univi, file, fails }) => {
    const univi = await Univi.create({
      model: "/models/univi-nano/manifest.json",
      device: "cpu",
      worker: false,
    });
    const text = await univi
      .ask([await file("trophies-bee.png"), "How many things are there?"], { temperature: 0 })
      .text();
    univi.dispose();
    univi.dispose();
    return { text, after: await fails(() => univi.ask("And now?").text()) };
  });
  assert.equal(said.text, "3");
  assert.equal(said.after.code, "bad-request");
});
