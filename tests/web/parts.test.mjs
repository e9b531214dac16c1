/**
 * The parts of a question in Chromium: files are what their content says, addresses are no words,
 * and what can't be shown is refused with what to pass instead.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { openPage } from "./chromium.mjs";
import { MODELS, OUTPUT } from "./fixtures.mjs";

/** @param {string} path From the repository's root. */
const folder = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const SAMPLES = folder("www/public/samples/");
const MADE = join(OUTPUT, "parts");
const FOLDERS = {
  "/": folder("tests/web/"),
  "/made/": `${MADE}/`,
  "/models/": `${MODELS}/`,
  "/pkg/": folder("pkg/"),
  "/samples/": SAMPLES,
};
const QUESTION = "What is there from left to right?";
const PICTURE = join(SAMPLES, "penguin-cookie.png");
const CLIP = join(SAMPLES, "penguin-moves.webm");

const run = promisify(execFile);
/** @param {string[]} args The last one is the name of the file. */
const ffmpeg = (...args) =>
  run("ffmpeg", ["-y", "-loglevel", "error", ...args.slice(0, -1), join(MADE, args.at(-1) ?? "")]);

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
before(async () => {
  await mkdir(MADE, { recursive: true });
  const two = ["-i", CLIP, "-vf", "fps=2", "-t", "3"];
  await Promise.all([
    ffmpeg("-i", PICTURE, "-c:v", "libaom-av1", "-still-picture", "1", "-crf", "4", "still.avif"),
    ffmpeg(...two, "-c:v", "libaom-av1", "-cpu-used", "8", "moves.avif"),
    ffmpeg(...two, "moves.gif"),
    ffmpeg(...two, "-c:v", "libwebp_anim", "-loop", "0", "moves.webp"),
    ffmpeg(...two, "-f", "apng", "-plays", "0", "moves.png"),
    ffmpeg("-i", PICTURE, "still.gif"),
    ffmpeg("-i", CLIP, "-c:v", "libx265", "-x265-params", "log-level=none", "hevc.mp4"),
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", "sound.wav"),
    ffmpeg("-i", PICTURE, "-frames:v", "1", "scan.tiff"),
    writeFile(
      join(MADE, "star.svg"),
      '<?xml version="1.0"?>\n<!-- drawn --><svg xmlns="http://www.w3.org/2000/svg" width="96" height="96"><rect width="96" height="96" fill="red"/></svg>',
    ),
    writeFile(join(MADE, "page.html"), "<!doctype html><title>Not found</title>"),
    writeFile(
      join(MADE, "photo.heic"),
      Buffer.from("0000001c6674797068656963000000006d69663168656963", "hex"),
    ),
  ]);
  opened = await openPage({ folders: FOLDERS });
  opened.page.setDefaultTimeout(0);
  await opened.page.evaluate(async () => {
    const univi = await import(`${location.origin}/pkg/dist/index.js`);
    const { file, fails } = await import(`${location.origin}/in-page.mjs`);
    const model = await univi.Univi.create({
      model: "/models/univi-nano/manifest.json",
      device: "cpu",
      cache: "none",
    });
    /** What became of a part: its answer, or its first frames. */
    const shown = async (/** @type {any} */ part, { question = "What?", maxTokens = 1 } = {}) => {
      const answer = model.ask([part, question], { temperature: 0, maxTokens });
      const text = await answer.text();
      const [map] = await answer.tokenMaps();
      return { text, kind: map?.kind, frames: map?.frames.length, warnings: answer.warnings };
    };
    Object.assign(globalThis, { parts: { ...univi, univi: model, file, fails, shown } });
  });
});
after(() => opened.close());

/**
 * @typedef {{ text: string, kind?: string, frames?: number, warnings: string[] }} Shown
 * @typedef {object} Page
 * @property {import("univi").Univi} univi
 * @property {(path: string, type?: string) => Promise<File>} file
 * @property {(work: () => unknown) => Promise<{ name: string, code?: string, message: string }>}
 * fails
 * @property {(part: unknown, options?: { question?: string, maxTokens?: number }) =>
 * Promise<Shown>} shown
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
  opened.page.evaluate(`(${work})(parts, ${JSON.stringify(argument)})`);

test("a file is what its content says, whatever its name and type say", async () => {
  const said = await inPage(async ({ file, shown }) => {
    const named = async (/** @type {string} */ path, /** @type {string} */ name, type = "") =>
      new File([await file(path)], name, { type });
    const [picture, clip] = ["/samples/penguin-cookie.png", "/samples/penguin-moves.webm"];
    return {
      picture: await shown(await named(picture, "a.bin", "application/octet-stream")),
      disguised: await shown(await named(picture, "a.mp4", "video/mp4")),
      clips: [
        await shown(await named(clip, "a.mkv")),
        await shown(await named(clip, "a", "application/octet-stream")),
        await shown(await named(clip, "a.png", "image/png")),
        await shown(new Blob([await file(clip)])),
      ],
      gif: await shown(await named("/made/moves.gif", "a.png", "image/png")),
      still: await shown(await named("/made/still.gif", "a.gif", "image/gif")),
    };
  });
  assert.deepEqual([said.picture.kind, said.disguised.kind], ["image", "image"]);
  for (const clip of said.clips) assert.ok(clip.kind === "clip" && (clip.frames ?? 0) > 2);
  assert.equal(said.gif.kind, "clip");
  assert.deepEqual([said.still.kind, said.still.frames], ["image", 1]);
});

test("animations are clips; as { image }, their first frame, with a warning", async () => {
  const said = await inPage(async ({ file, shown }) => {
    /** @type {Record<string, { part: Shown, clip: Shown, image: Shown, address: Shown }>} */
    const said = {};
    for (const name of ["moves.gif", "moves.webp", "moves.avif", "moves.png"])
      said[name] = {
        part: await shown(await file(`/made/${name}`)),
        clip: await shown({ video: `/made/${name}`, maxFrames: 2 }),
        image: await shown({ image: await file(`/made/${name}`) }),
        address: await shown(new URL(`/made/${name}`, location.href)),
      };
    return said;
  });
  for (const [name, { part, clip, image, address }] of Object.entries(said)) {
    assert.ok(part.kind === "clip" && (part.frames ?? 0) > 1, `${name}: ${JSON.stringify(part)}`);
    assert.deepEqual([clip.kind, clip.frames], ["clip", 2], name);
    assert.deepEqual([image.kind, image.frames], ["image", 1], name);
    assert.match(image.warnings[0] ?? "", new RegExp(`${name}: only its first frame`));
    assert.deepEqual([part.warnings, address.kind], [[], "clip"], name);
  }
});

test("parts may be objects, whose pictures and clips have addresses", async () => {
  const said = await inPage(async ({ univi, fails }, question) => {
    const ask = async (/** @type {any[]} */ ...parts) =>
      univi.ask(parts, { temperature: 0, maxTokens: 8 }).text();
    const words = [
      "/cat.png",
      "https://example.com/a/cat.JPG?size=2",
      "C:\\photos\\my cat.webp",
      "clip.mp4",
      "data:image/png;base64,AAAA",
      "blob:https://example.com/1",
    ];
    /** @type {Record<string, string>} */
    const refused = {};
    for (const word of words) refused[word] = (await fails(() => ask(word, "What?"))).message;
    return {
      image: await ask({ image: "/samples/penguin-cookie.png" }, { text: question }),
      typed: await ask(
        { type: "image", image: new URL("/samples/penguin-cookie.png", location.href) },
        { type: "text", text: question },
      ),
      video: await ask(
        { video: "/samples/penguin-moves.webm" },
        "Which way does the penguin move?",
      ),
      // Words about a file are words.
      words: await fails(() => ask({ text: "/cat.png" })),
      sentence: await fails(() => ask("What does cat.png show?")),
      refused,
      clip: await fails(() => ask({ image: "/samples/penguin-moves.webm" })),
      picture: await fails(() => ask({ video: "/samples/penguin-cookie.png" })),
      nothing: await fails(() => ask({ image: undefined })),
      other: await fails(() => ask({ pictures: [] })),
      option: await fails(() => ask({ video: "/samples/penguin-moves.webm", fps: 2 })),
    };
  }, QUESTION);
  assert.equal(said.image, "penguin and cookie");
  assert.equal(said.typed, "penguin and cookie");
  assert.equal(said.video, "right");
  assert.equal(said.words.name, "nothing");
  assert.equal(said.sentence.name, "nothing");
  for (const [word, message] of Object.entries(said.refused))
    assert.match(
      message,
      /looks like the address of a (picture|clip).*write \{ (image|video): /,
      word,
    );
  assert.match(said.clip.message, /write \{ video \}/);
  assert.match(said.picture.message, /write \{ image \}/);
  assert.match(said.nothing.message, /part 0\.image is undefined/);
  assert.match(said.other.message, /expected text, a picture/);
  assert.match(said.option.message, /no option "fps"; did you mean "frameRate"/);
});

test("data that is in the page already is shown", async () => {
  const said = await inPage(async ({ file, shown, fails, univi }, question) => {
    const picture = await file("/samples/penguin-cookie.png");
    const bytes = new Uint8Array(await picture.arrayBuffer());
    const base64 = btoa(String.fromCharCode(...bytes));
    const percent = [...bytes].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
    const input = Object.assign(document.createElement("input"), { type: "file", multiple: true });
    const transfer = new DataTransfer();
    for (const name of ["penguin-cookie.png", "trophies-bee.png"])
      transfer.items.add(await file(`/samples/${name}`));
    input.files = transfer.files;
    const lazy = Object.assign(new Image(), {
      loading: "lazy",
      src: "/samples/penguin-cookie.png",
    });
    const video = Object.assign(document.createElement("video"), {
      src: "/samples/penguin-moves.webm",
    });
    const larger = new Uint8Array(bytes.length + 20);
    larger.set(bytes, 10);
    const parts = {
      base64: new URL(`data:image/png;base64,${base64}`),
      percent: { image: `data:,${percent}` },
      blob: new URL(URL.createObjectURL(picture)),
      response: await fetch("/samples/penguin-cookie.png"),
      buffer: bytes.buffer,
      view: new DataView(larger.buffer, 10, bytes.length),
      loading: Object.assign(new Image(), { src: "/samples/penguin-cookie.png" }),
      lazy,
    };
    /** @type {Record<string, string>} */
    const texts = {};
    for (const [kind, part] of Object.entries(parts))
      texts[kind] = (await shown(part, { question, maxTokens: 8 })).text;
    const many = univi.ask([/** @type {FileList} */ (input.files), "What?"], { maxTokens: 1 });
    const used = await fetch("/samples/penguin-cookie.png");
    await used.text();
    return {
      texts,
      many: (await many.tokenMaps()).map(({ kind }) => kind),
      video: (await shown(video)).kind,
      clipUrl: (await shown(new URL("/samples/penguin-moves.webm", location.href))).kind,
      absent: await fails(async () => shown(await fetch("/samples/none.png"))),
      used: await fails(() => shown(used)),
      broken: await fails(() => shown(Object.assign(new Image(), { src: "/none.png" }))),
      revoked: await fails(() => shown(new URL("blob:http://localhost/none"))),
      cut: await fails(() => shown(new URL(`data:image/png;base64,${"A".repeat(90_001)}!`))),
    };
  }, QUESTION);
  for (const [kind, text] of Object.entries(said.texts))
    assert.equal(text, "penguin and cookie", kind);
  assert.deepEqual(said.many, ["image", "image"]);
  assert.deepEqual([said.video, said.clipUrl], ["image", "clip"]);
  assert.match(said.absent.message, /404/);
  assert.match(said.used.message, /was read already/);
  assert.match(said.broken.message, /has not loaded.*none\.png/);
  assert.match(said.revoked.message, /pass the Blob itself/);
  assert.ok(said.cut.message.length < 300, said.cut.message);
});

test("what the browser shows is shown, and what it can't is named", async () => {
  const said = await inPage(async ({ file, shown, fails }, question) => {
    /** @type {Record<string, { name: string, code?: string, message: string }>} */
    const refused = {};
    for (const name of ["photo.heic", "scan.tiff", "page.html", "sound.wav", "hevc.mp4"])
      refused[name] = await fails(async () => shown(await file(`/made/${name}`)));
    refused.words = await fails(() => shown(new Blob(["just words"])));
    refused.empty = await fails(() => shown(new Blob([])));
    return {
      avif: (await shown(await file("/made/still.avif"), { question, maxTokens: 8 })).text,
      svg: (await shown(await file("/made/star.svg"))).kind,
      svgAddress: (await shown({ image: "/made/star.svg" })).kind,
      refused,
      hevcAddress: await fails(() => shown({ video: "/made/hevc.mp4" })),
    };
  }, QUESTION);
  assert.equal(said.avif, "penguin and cookie");
  assert.deepEqual([said.svg, said.svgAddress], ["image", "image"]);
  const names = {
    "photo.heic": ["bad-image", /HEIC.*can't decode.*PNG or JPEG/],
    "scan.tiff": ["bad-image", /TIFF/],
    "page.html": ["bad-image", /web page/],
    "sound.wav": ["bad-image", /WAV/],
    "hevc.mp4": ["bad-video", /HEVC/],
    words: ["bad-image", /unknown type/],
    empty: ["bad-image", /empty/],
  };
  for (const [name, [code, says]] of Object.entries(names)) {
    const { code: found, message } = said.refused[name] ?? { message: "" };
    assert.equal(found, code, `${name}: ${message}`);
    assert.match(message, /** @type {RegExp} */ (says), name);
  }
  assert.match(said.hevcAddress.message, /HEVC/);
});

test("options are copied, checked, and refused by name", async () => {
  const said = await inPage(async ({ univi, file, fails }, question) => {
    const photo = await file("/samples/penguin-cookie.png");
    /** As Vue makes reactive objects: plain ones are wrapped, others are left. */
    const reactive = (/** @type {any} */ target) =>
      /** @type {any} */ (
        new Proxy(target, {
          get(object, key) {
            const value = Reflect.get(object, key);
            const isPlain =
              Array.isArray(value) || Object.getPrototypeOf(value ?? 0) === Object.prototype;
            return isPlain ? reactive(value) : value;
          },
        })
      );
    const greedy = { temperature: 0 };
    const parts = [photo, question];
    const refused = {
      snake: await fails(() => univi.ask(parts, /** @type {any} */ ({ max_tokens: 3 })).text()),
      unknown: await fails(() => univi.ask(parts, /** @type {any} */ ({ colour: 3 })).text()),
      type: await fails(() => univi.ask(parts, /** @type {any} */ ({ topK: "3" })).text()),
      stop: await fails(() => univi.ask(parts, /** @type {any} */ ({ stop: "and" })).text()),
      session: await fails(async () => univi.session(/** @type {any} */ ({ history: [] }))),
      watch: await fails(async () =>
        univi.watch(new MediaStream(), /** @type {any} */ ({ fps: 1 })),
      ),
      proxy: await fails(() => univi.ask([new Proxy(photo, {}), question]).text()),
      signal: await fails(() =>
        univi.ask(parts, { signal: new Proxy(new AbortController().signal, {}) }).text(),
      ),
    };
    const list = [...parts];
    const later = univi.ask(list, greedy);
    list.length = 0;
    const conversation = univi.session(
      reactive({
        system: null,
        messages: [
          { role: "user", content: [photo, question] },
          { role: "assistant", content: "penguin and cookie" },
        ],
      }),
    );
    const texts = {
      frozen: await univi.ask(Object.freeze([...parts]), Object.freeze({ ...greedy })).text(),
      reactive: await univi.ask(reactive(parts), reactive({ ...greedy, stop: ["and"] })).text(),
      absent: await univi
        .ask(parts, /** @type {any} */ ({ ...greedy, topK: null, stop: null, signal: undefined }))
        .text(),
      schema: await univi
        .ask("Is there a bee?", { ...greedy, jsonSchema: reactive({ enum: ["a", "b"] }) })
        .text(),
      messages: await conversation.ask("Can you see a penguin?", greedy).text(),
      later: await later.text(),
    };
    conversation.dispose();
    return { refused, texts };
  }, QUESTION);
  const names = {
    snake: /ask has no option "max_tokens"; did you mean "maxTokens"\?/,
    unknown: /ask has no option "colour"; it has .*maxTokens/,
    type: /topK is "3", expected a number/,
    stop: /stop is "and", expected a list of strings/,
    session: /session has no option "history"; did you mean "messages"\?/,
    watch: /watch has no option "fps"/,
    proxy: /not a proxy of it/,
    signal: /signal.*not a proxy/,
  };
  for (const [name, { code, message }] of Object.entries(said.refused)) {
    assert.equal(code, "bad-request", `${name}: ${message}`);
    assert.match(message, names[/** @type {keyof typeof names} */ (name)]);
  }
  assert.deepEqual(said.texts, {
    frozen: "penguin and cookie",
    reactive: "penguin",
    absent: "penguin and cookie",
    schema: said.texts.schema,
    messages: "yes",
    later: "penguin and cookie",
  });
});

test("messages that are none are refused", async () => {
  const said = await inPage(async ({ univi, fails }) => {
    const session = (/** @type {any} */ messages) => fails(async () => univi.session({ messages }));
    return {
      system: await session([{ role: "system", content: "Be brief." }]),
      open: await session([{ role: "user", content: "Hello?" }]),
      answer: await session([{ role: "assistant", content: "Hello." }]),
      word: await session("Hello?"),
      address: await session([{ role: "user", content: "/cat.png" }]),
    };
  });
  assert.match(said.system.message, /messages\[0\].*"system" beside messages/);
  assert.match(said.open.message, /without an answer/);
  assert.match(said.answer.message, /answer without a question/);
  assert.match(said.word.message, /a list of \{ role, content \}/);
  assert.match(said.address.message, /looks like the address/);
});
