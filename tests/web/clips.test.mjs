/**
 * Clips of all kinds in Chromium: that every frame is the right one, that none is left behind, and
 * what is said of bad ones.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { openPage } from "./chromium.mjs";
import { OUTPUT, tinyModel } from "./fixtures.mjs";
import { serve } from "./server.mjs";

const run = promisify(execFile);
const MODEL = `/output/${await tinyModel()}/manifest.json`;

/** Pixels of the test clips. */
const [WIDTH, HEIGHT] = [128, 96];

/**
 * Every frame carries its number: the left half's lightness is its low four bits, the right half's
 * the high ones.
 */
const NUMBERS = `geq=lum='16+13*if(lt(X,W/2),mod(N,16),floor(N/16))':cb=128:cr=128`;

/**
 * Has ffmpeg write numbered frames -> the file's name, below `OUTPUT`.
 *
 * @param {string} name
 * @param {number} seconds
 * @param {string[]} encode How, and with what.
 * @param {string} [filters] After the numbers were drawn.
 */
async function numbered(name, seconds, encode, filters = "null") {
  const source = `color=black:s=${WIDTH}x${HEIGHT}:r=30:d=${seconds},format=yuv420p,${NUMBERS},${filters}`;
  await run("ffmpeg", [
    "-y",
    "-loglevel",
    "error",
    "-f",
    "lavfi",
    "-i",
    source,
    ...encode,
    join(OUTPUT, name),
  ]);
  return name;
}

const H264 = ["-c:v", "libx264", "-bf", "2", "-crf", "12"];
const VP9 = [
  "-c:v",
  "libvpx-vp9",
  "-crf",
  "12",
  "-b:v",
  "0",
  "-cpu-used",
  "8",
  "-deadline",
  "realtime",
];
const AV1 = ["-c:v", "libsvtav1", "-preset", "12", "-crf", "12"];

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
before(async () => {
  opened = await openPage();
  await opened.page.evaluate(async () => {
    const load = (/** @type {string} */ path) => import(`${location.origin}/pkg/dist/${path}`);
    const [univi, decoded, element] = [
      await load("index.js"),
      await load("clip/decoded.js"),
      await load("clip/element.js"),
    ];
    const { file: fetched, fails } = await import(`${location.origin}/in-page.mjs`);
    const file = (/** @type {string} */ path) => fetched(path, "video/any");

    // Every frame that a decoder gives, or that is copied or made of one, is remembered.
    const frames = /** @type {Set<VideoFrame>} */ (new Set());
    const open = () => [...frames].filter((frame) => frame.codedWidth > 0).length;
    let mostOpen = 0;
    const note = (/** @type {VideoFrame} */ frame) => {
      frames.add(frame);
      mostOpen = Math.max(mostOpen, open());
      return frame;
    };
    globalThis.VideoDecoder = class extends VideoDecoder {
      constructor(/** @type {VideoDecoderInit} */ { output, error }) {
        super({ output: (frame) => output(note(frame)), error });
      }
    };
    globalThis.VideoFrame = new Proxy(VideoFrame, {
      construct: (target, args) => note(Reflect.construct(target, args)),
    });
    const { clone } = VideoFrame.prototype;
    VideoFrame.prototype.clone = function () {
      return note(clone.call(this));
    };
    let elements = 0;
    const { createElement } = document;
    Object.assign(document, {
      createElement: (/** @type {string} */ name) => {
        elements += name === "video" ? 1 : 0;
        return createElement.call(document, name);
      },
    });
    const counts = () => ({ decoded: frames.size, open: open(), mostOpen, elements });
    const forget = () => {
      frames.clear();
      [mostOpen, elements] = [0, 0];
    };

    /** Pixels of a picture at the middles of its four quarters, row by row: red, green, blue. */
    const quarters = (/** @type {ImageBitmap} */ picture) => {
      const { width, height } = picture;
      const context = new OffscreenCanvas(width, height).getContext("2d", {
        willReadFrequently: true,
      });
      if (!context) throw new Error("no canvas");
      context.drawImage(picture, 0, 0);
      picture.close();
      const at = (/** @type {number} */ x, /** @type {number} */ y) => [
        ...context.getImageData(width * x, height * y, 1, 1).data.slice(0, 3),
      ];
      return [at(0.25, 0.25), at(0.75, 0.25), at(0.25, 0.75), at(0.75, 0.75)];
    };
    /** The pictures of a clip at some times. */
    const look = async (/** @type {OpenClip} */ clip, /** @type {number[]} */ times) => {
      const pictures = [];
      for await (const frame of clip.frames(times)) {
        if (frame.kind !== "bitmap") throw new Error("a page has canvases");
        pictures.push({
          size: [frame.bitmap.width, frame.bitmap.height],
          picture: quarters(frame.bitmap),
        });
      }
      clip.close();
      return { seconds: clip.timing.endSeconds, pictures };
    };
    Object.assign(globalThis, {
      page: { ...univi, ...decoded, ...element, file, fails, counts, forget, look },
    });
  });
});
after(() => opened.close());

/**
 * @typedef {{ decoded: number, open: number, mostOpen: number, elements: number }} Counts
 * @typedef {{ size: number[], picture: number[][] }} Picture
 * @typedef {{ seconds: number, pictures: Picture[] }} Looked
 * @typedef {import("../../pkg/src/clip/open-clip.js").OpenClip} OpenClip
 */

/**
 * What the page offers to what runs in it.
 *
 * @typedef {object} Page
 * @property {typeof import("univi").Univi} Univi
 * @property {(source: Blob | URL, name: string, signal?: AbortSignal) =>
 * Promise<import("../../pkg/src/clip/decoded.js").Decoded>} openDecoded
 * @property {(source: Blob | URL, name: string, codec?: string, signal?: AbortSignal) =>
 * Promise<OpenClip>} openElement
 * @property {(path: string) => Promise<File>} file
 * @property {(work: () => Promise<unknown>) => Promise<{ name: string, code?: string, message:
 * string }>} fails
 * @property {() => Counts} counts Of decoded frames since `forget`, those of them that are not
 * closed, and `<video>` elements.
 * @property {() => void} forget
 * @property {(clip: OpenClip, times: number[]) => Promise<Looked>} look
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
  return opened.page.evaluate(`(${work})(page, ${JSON.stringify(argument)})`);
}

/**
 * The number that a frame carries.
 *
 * @param {number[][]} picture
 */
function numberOf([left, right]) {
  const bits = (/** @type {number[] | undefined} */ [red = NaN] = []) =>
    Math.round((red * 219) / 255 / 13);
  return bits(left) + 16 * bits(right);
}

/**
 * The frames of a file of `OUTPUT` at `times`, decoded, and what became of the decoder's frames.
 *
 * @param {string} name
 * @param {number[]} times
 * @returns {Promise<Looked & Counts>}
 */
function decode(name, times) {
  return inPage(
    async ({ openDecoded, file, look, counts, forget }, { path, times }) => {
      forget();
      const { clip } = await openDecoded(await file(path), "clip");
      if (!clip) throw new Error(`${path}: not opened`);
      return { ...(await look(clip, times)), ...counts() };
    },
    { path: `/output/${name}`, times },
  );
}

const SPARSE = Array.from({ length: 8 }, (_, index) => index / 2);
const DENSE = Array.from({ length: 28 }, (_, index) => index / 7);

for (const [name, encode] of /** @type {const} */ ([
  ["h264.mp4", H264],
  ["h264.mov", H264],
  ["h264.mkv", H264],
  ["vp9.webm", VP9],
  ["av1.mp4", AV1],
  ["av1.webm", AV1],
])) {
  test(`every frame is the one of its time: ${name}`, async () => {
    await numbered(name, 4, [...encode]);
    for (const times of [SPARSE, DENSE]) {
      const { seconds, pictures, decoded, open, mostOpen, elements } = await decode(name, times);
      assert.ok(Math.abs(seconds - 4) < 0.01, `${seconds} s`);
      assert.deepEqual(
        pictures.map(({ picture }) => numberOf(picture)),
        times.map((time) => Math.floor(time * 30 + 1e-6)),
      );
      assert.ok(
        pictures.every(({ size: [width, height] }) => width === WIDTH && height === HEIGHT),
      );
      assert.equal(elements, 0);
      assert.equal(open, 0, `${open} of ${decoded} frames were left open`);
      assert.ok(mostOpen <= 12, `${mostOpen} frames were open at the same time`);
    }
  });
}

test("frames of different lengths: what is shown at a time is seen", async () => {
  // Frames 0 to 7, then nothing new until 50.
  const name = await numbered(
    "variable.mp4",
    3,
    [...H264, "-fps_mode", "vfr"],
    "select='lt(n,8)+gte(n,50)'",
  );
  const { pictures } = await decode(name, [0, 0.1, 1, 1.6, 1.7, 2]);
  assert.deepEqual(
    pictures.map(({ picture }) => numberOf(picture)),
    [0, 3, 7, 7, 51, 60],
  );
});

test("a clip whose time does not begin at 0 is seen from its first frame on", async () => {
  const name = await numbered("late.mkv", 2, [...VP9, "-output_ts_offset", "100"]);
  const { seconds, pictures } = await decode(name, [0, 1]);
  assert.ok(Math.abs(seconds - 2) < 0.05, `${seconds} s`);
  assert.deepEqual(
    pictures.map(({ picture }) => numberOf(picture)),
    [0, 30],
  );
});

test("a clip that was held upright is seen upright", async () => {
  // A quarter turn, as a phone notes it: in the header of the track.
  const bytes = await readFile(join(OUTPUT, await numbered("flat.mp4", 1, H264)));
  const matrix = bytes.indexOf("tkhd") + 44;
  [0, 1 << 16, 0, -1 << 16, 0, 0, HEIGHT << 16, 0, 1 << 30].forEach((value, index) => {
    bytes.writeInt32BE(value, matrix + 4 * index);
  });
  await writeFile(join(OUTPUT, "upright.mp4"), bytes);
  const {
    pictures: [shown],
  } = await decode("upright.mp4", [0.5]);
  const played = await inPage(
    async ({ openElement, file, look }) =>
      look(await openElement(await file("/output/upright.mp4"), "clip", undefined), [0.5]),
    null,
  );
  assert.deepEqual(shown?.size, [HEIGHT, WIDTH]);
  const [topLeft, topRight, bottomLeft] = shown?.picture ?? [];
  assert.equal(topLeft?.[0], topRight?.[0]);
  assert.notEqual(topLeft?.[0], bottomLeft?.[0]);
  assert.deepEqual(shown, played.pictures[0]);
});

test("only the chosen frames are looked at, and known with their cost before", async () => {
  await numbered("chosen.mp4", 4, H264);
  const choices = [
    [{}, [0, 1, 2, 3]],
    [{ startSeconds: 1, endSeconds: 3, frameRate: 2 }, [1, 1.5, 2, 2.5, 3]],
    [{ startSeconds: 1, endSeconds: 3, frameRate: 2, maxFrames: 3 }, [1, 2, 3]],
    [{ startSeconds: 2 }, [2, 3]],
  ];
  const said = await inPage(
    async ({ Univi, file, fails, counts, forget }, { model, choices }) => {
      const univi = await Univi.create({ model, device: "cpu" });
      const video = await file("/output/chosen.mp4");
      forget();
      const seen = [];
      const measured = [];
      /** @type {string[]} */
      const heard = [];
      for (const choice of choices) measured.push(await univi.measureClip({ video, ...choice }));
      const { decoded } = counts();
      const fewer = await univi.tokenMap({ video }, { visualTokens: 12 });
      const known = await univi.measureClip({ video }, { visualTokens: 12 });
      const tokens = [];
      for (const choice of choices) {
        const onProgress = (/** @type {import("univi").AskProgress} */ { phase, loaded, total }) =>
          phase === "frames" && heard.push(`${loaded}/${total}`);
        const answer = univi.ask([{ video, ...choice }, "What?"], { maxTokens: 1, onProgress });
        await answer.text();
        const [map] = await answer.tokenMaps();
        seen.push(map?.frames.map((frame) => frame.timeSeconds));
        tokens.push(map?.tokens);
      }
      const refused = await fails(() => univi.tokenMap("words"));
      const outside = await fails(() =>
        univi.ask([{ video, startSeconds: 60 }, "What?"], { maxTokens: 1 }).text(),
      );
      univi.dispose();
      const before = { measured, decoded, fewer: [fewer.tokens, known.tokens], refused };
      return { ...counts(), seen, tokens, heard, outside, before };
    },
    { model: MODEL, choices: choices.map(([choice]) => choice) },
  );
  assert.deepEqual(
    said.seen,
    choices.map(([, times]) => times),
  );
  /** @type {{ measured: import("univi").ClipMeasure[], [other: string]: any }} */
  const { measured, decoded, fewer, refused } = said.before;
  assert.equal(decoded, 1, "measuring decodes the first frame alone, once");
  assert.deepEqual(
    measured.map(({ timesSeconds, tokens }) => ({ timesSeconds, tokens })),
    choices.map(([, timesSeconds], index) => ({ timesSeconds, tokens: said.tokens[index] })),
  );
  assert.deepEqual(
    measured.map(({ durationSeconds }) => durationSeconds),
    [4, 4, 4, 4],
  );
  assert.equal(fewer[0], fewer[1]);
  assert.ok(Number(fewer[0]) < Number(said.tokens[0]), `${fewer[0]} of ${said.tokens[0]}`);
  assert.deepEqual(
    [refused.code, refused.message.includes("one picture or clip")],
    ["bad-request", true],
  );
  assert.deepEqual(said.heard.slice(0, 4), ["1/4", "2/4", "3/4", "4/4"]);
  assert.equal(said.heard.length, 4 + 5 + 3 + 2);
  assert.equal(said.outside.code, "bad-video");
  assert.deepEqual([said.open, said.elements], [0, 0]);
});

test("a clip can come from an address or an element, and nothing else is fetched", async () => {
  await numbered("chosen.mp4", 4, H264);
  /** @type {string[]} */
  const requests = [];
  const note = (/** @type {import("playwright-core").Request} */ request) =>
    requests.push(request.url());
  const said = await inPage(async ({ Univi }, model) => {
    const univi = await Univi.create({ model, device: "cpu" });
    Object.assign(globalThis, { univi });
    return univi.info.vision;
  }, MODEL);
  assert.ok(said);
  opened.page.on("request", note);
  const seen = await inPage(async ({ file }) => {
    const { univi } = /** @type {{ univi: import("univi").Univi }} */ (
      /** @type {unknown} */ (globalThis)
    );
    const seen = [];
    const url = new URL("/output/chosen.mp4", location.href);
    const blob = URL.createObjectURL(await file(url.href));
    for (const src of [undefined, url.href, blob]) {
      const element = document.createElement("video");
      if (src) {
        element.src = src;
        await new Promise((resolve) => (element.onloadeddata = resolve));
      }
      const answer = univi.ask([{ video: src ? element : url }, "What?"], { maxTokens: 1 });
      await answer.text();
      seen.push((await answer.tokenMaps())[0]?.frames.map((frame) => frame.timeSeconds));
      if (element.currentTime !== 0) throw new Error("the page's element was moved");
    }
    URL.revokeObjectURL(blob);
    univi.dispose();
    return seen;
  }, null);
  opened.page.off("request", note);
  assert.deepEqual(seen, [
    [0, 1, 2, 3],
    [0, 1, 2, 3],
    [0, 1, 2, 3],
  ]);
  const own = /^blob:|\/output\/chosen\.mp4$|\/pkg\/dist\/clip(\/\w+)?\.js$/;
  const elsewhere = requests.filter((url) => !own.test(url));
  assert.deepEqual(elsewhere, []);
  assert.ok(requests.length > 0);
});

for (const fault of ["drop=2000", "ignore-range", "no-length"]) {
  test(`a clip is fetched from a server with its weaknesses: ${fault}`, async () => {
    await numbered("chosen.mp4", 4, H264);
    const server = await serve({ "/": OUTPUT }, ["--fault", fault]);
    try {
      const { pictures } = await inPage(async ({ openDecoded, look }, url) => {
        const { clip } = await openDecoded(new URL(url), "clip");
        if (!clip) throw new Error("not opened");
        return look(clip, [0, 1, 2, 3]);
      }, `${server.url}chosen.mp4`);
      assert.deepEqual(
        pictures.map((/** @type {Picture} */ { picture }) => numberOf(picture)),
        [0, 30, 60, 90],
      );
    } finally {
      await server.close();
    }
  });
}

test("the demuxer comes with the first clip, not before", async () => {
  await numbered("chosen.mp4", 4, H264);
  const page = await opened.page.context().newPage();
  /** @type {string[]} */
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(`${opened.url}empty.html`);
  const ask = async (/** @type {string} */ model) => {
    const { Univi } = await import(`${location.origin}/pkg/dist/index.js`);
    const univi = await Univi.create({ model, device: "cpu" });
    await univi.ask([new ImageData(64, 48), "What?"], { maxTokens: 1 }).text();
    Object.assign(globalThis, { univi });
  };
  const askOfClip = async () => {
    const { univi } = /** @type {{ univi: import("univi").Univi }} */ (
      /** @type {unknown} */ (globalThis)
    );
    await univi
      .ask([{ video: new URL("/output/chosen.mp4", location.href) }, "What?"], { maxTokens: 1 })
      .text();
    univi.dispose();
  };
  const fetched = () => requests.filter((url) => url.endsWith("/demuxer.js")).length;
  await page.evaluate(ask, MODEL);
  assert.equal(fetched(), 0);
  await page.evaluate(askOfClip);
  assert.equal(fetched(), 1);
  await page.close();
});

test("what was recorded in the page can be asked about at once", async () => {
  const said = await inPage(async ({ Univi, openDecoded, look }, model) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [128, 96];
    const context = canvas.getContext("2d");
    if (!context) throw new Error("no canvas");
    const recorder = new MediaRecorder(canvas.captureStream(20), { mimeType: "video/webm" });
    /** @type {Blob[]} */
    const pieces = [];
    recorder.ondataavailable = ({ data }) => pieces.push(data);
    const stopped = new Promise((resolve) => (recorder.onstop = resolve));
    recorder.start(200);
    const begun = performance.now();
    for (let elapsed = 0; elapsed < 2500; elapsed = performance.now() - begun) {
      context.fillStyle = elapsed < 1250 ? "red" : "blue";
      context.fillRect(0, 0, 128, 96);
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
    recorder.stop();
    await stopped;
    const recording = new Blob(pieces, { type: "video/webm" });
    const element = document.createElement("video");
    element.src = URL.createObjectURL(recording);
    await new Promise((resolve) => (element.onloadedmetadata = resolve));
    const { clip } = await openDecoded(recording, "recording");
    if (!clip) throw new Error("not opened");
    const looked = await look(clip, [0, clip.timing.endSeconds]);
    const univi = await Univi.create({ model, device: "cpu" });
    const answer = univi.ask([recording, "What?"], { maxTokens: 1 });
    await answer.text();
    const [map] = await answer.tokenMaps();
    univi.dispose();
    return {
      known: Number.isFinite(element.duration),
      looked,
      times: map?.frames.map((frame) => frame.timeSeconds),
    };
  }, MODEL);
  assert.equal(
    said.known,
    false,
    "Chromium tells a recording's length: this test no longer tests anything",
  );
  const [first, last] = said.looked.pictures.map(
    (/** @type {Picture} */ { picture }) => picture[0] ?? [],
  );
  assert.ok((first?.[0] ?? 0) > 200 && (first?.[2] ?? 255) < 60, `${first}`);
  assert.ok((last?.[2] ?? 0) > 200 && (last?.[0] ?? 255) < 60, `${last}`);
  // A busy machine records at some other rate than 20, of which a second is no whole number.
  const [begin, second = 0] = said.times ?? [];
  assert.equal(begin, 0);
  assert.ok(Math.abs(second - 1) < 0.1, `${said.times}`);
});

test("a page without WebCodecs has the clip played", async () => {
  await numbered("chosen.mp4", 4, H264);
  const said = await inPage(async ({ Univi, openElement, file, look, counts, forget }, model) => {
    const { VideoDecoder } = globalThis;
    Reflect.deleteProperty(globalThis, "VideoDecoder");
    try {
      forget();
      const univi = await Univi.create({ model, device: "cpu" });
      const video = await file("/output/chosen.mp4");
      const answer = univi.ask([{ video, frameRate: 2 }, "What?"], { maxTokens: 1 });
      await answer.text();
      const [map] = await answer.tokenMaps();
      univi.dispose();
      const played = await look(await openElement(video, "clip", undefined), [0, 1, 2.5]);
      return {
        played,
        times: map?.frames.map((frame) => frame.timeSeconds),
        ...counts(),
      };
    } finally {
      globalThis.VideoDecoder = VideoDecoder;
    }
  }, MODEL);
  assert.deepEqual(said.times, SPARSE);
  assert.deepEqual(
    said.played.pictures.map((/** @type {Picture} */ { picture }) => numberOf(picture)),
    [0, 30, 75],
  );
  assert.deepEqual([said.decoded, said.elements], [0, 2]);
});

test("a clip can be given up at any frame, and the next question is answered", async () => {
  await numbered("chosen.mp4", 4, H264);
  const said = await inPage(async ({ Univi, file, fails, counts, forget }, model) => {
    const univi = await Univi.create({ model, device: "cpu" });
    const video = await file("/output/chosen.mp4");
    forget();
    const thrown = [];
    for (const last of [1, 3, 8]) {
      const stop = new AbortController();
      const onProgress = (/** @type {import("univi").AskProgress} */ { phase, loaded }) =>
        phase === "frames" && loaded === last && stop.abort();
      thrown.push(
        (
          await fails(() =>
            univi
              .ask([{ video, frameRate: 4 }, "What?"], { signal: stop.signal, onProgress })
              .text(),
          )
        ).name,
      );
    }
    const stop = new AbortController();
    const early = fails(() =>
      univi
        .ask([{ video: new URL("/output/chosen.mp4", location.href) }, "What?"], {
          signal: stop.signal,
        })
        .text(),
    );
    await new Promise((resolve) => setTimeout(resolve, 5));
    stop.abort();
    thrown.push((await early).name);
    const answer = univi.ask([{ video }, "What?"], { maxTokens: 1 });
    await answer.text();
    univi.dispose();
    // Decoders come to rest a moment later.
    for (let tries = 0; counts().open > 0 && tries < 100; tries++)
      await new Promise((resolve) => setTimeout(resolve, 20));
    return { thrown, tokens: answer.usage?.completionTokens, ...counts() };
  }, MODEL);
  assert.deepEqual(said.thrown, Array(4).fill("AbortError"));
  assert.equal(said.tokens, 1);
  assert.ok(said.decoded > 0);
  assert.equal(said.open, 0, `${said.open} of ${said.decoded} frames were left open`);
});

test("a clip that can't be used says why", async () => {
  const sound = ["-y", "-loglevel", "error", "-f", "lavfi", "-i", "sine=d=2"];
  await run("ffmpeg", [...sound, "-c:a", "libopus", join(OUTPUT, "sound.webm")]);
  await run("ffmpeg", [...sound, "-c:a", "aac", join(OUTPUT, "sound.mp4")]);
  await numbered("old.avi", 1, ["-c:v", "mpeg4"]);
  // The first has its index at its end, the second at its start, the third none.
  await numbered("whole.mp4", 4, H264);
  await numbered("fast.mp4", 4, [...H264, "-movflags", "+faststart"]);
  for (const [whole, cut] of [
    ["whole.mp4", "cut.mp4"],
    ["fast.mp4", "cut-fast.mp4"],
  ]) {
    const bytes = await readFile(join(OUTPUT, whole ?? ""));
    await writeFile(join(OUTPUT, cut ?? ""), bytes.subarray(0, bytes.length * 0.6));
  }
  await writeFile(
    join(OUTPUT, "zeros.mp4"),
    Buffer.concat([(await readFile(join(OUTPUT, "fast.mp4"))).subarray(0, 64), Buffer.alloc(9000)]),
  );
  const files = ["sound.webm", "sound.mp4", "old.avi", "cut.mp4", "cut-fast.mp4", "zeros.mp4"];
  const said = await inPage(
    async ({ Univi, file, fails, counts, forget }, { model, files }) => {
      const univi = await Univi.create({ model, device: "cpu" });
      forget();
      /** @type {Record<string, { name: string, code?: string, message: string }>} */
      const thrown = {};
      for (const name of files) {
        const video = await file(`/output/${name}`);
        thrown[name] = await fails(() => univi.ask([{ video }, "What?"], { maxTokens: 1 }).text());
      }
      const absent = await fails(() =>
        univi.ask([{ video: new URL("/output/absent.mp4", location.href) }, "What?"]).text(),
      );
      const nobody = await fails(() =>
        univi.ask([{ video: new URL("http://localhost:9/clip.mp4") }, "What?"]).text(),
      );
      const empty = await fails(() =>
        univi.ask([{ video: document.createElement("video") }, "What?"]).text(),
      );
      univi.dispose();
      return { thrown, absent, nobody, empty, ...counts() };
    },
    { model: MODEL, files },
  );
  for (const [name, { code, message }] of Object.entries(said.thrown)) {
    assert.equal(code, "bad-video", `${name}: ${message}`);
    assert.ok(message.includes(name), message);
  }
  assert.equal(said.absent.code, "io");
  assert.match(said.absent.message, /absent\.mp4: .*404/);
  assert.equal(said.nobody.code, "io");
  assert.equal(said.empty.code, "bad-video");
  assert.equal(said.open, 0);
});

test("a recording that broke off is seen as far as it goes", async () => {
  const bytes = await readFile(
    join(OUTPUT, await numbered("pieces.webm", 4, [...VP9, "-cluster_time_limit", "400"])),
  );
  await writeFile(join(OUTPUT, "cut.webm"), bytes.subarray(0, bytes.length / 2));
  const { seconds } = await decode("cut.webm", [0]);
  assert.ok(seconds > 1 && seconds < 3, `${seconds} s`);
  const times = [0, 0.5, 0.5, 1, Math.floor(seconds * 10) / 10];
  const { pictures, open } = await decode("cut.webm", times);
  assert.deepEqual(
    pictures.map(({ picture }) => numberOf(picture)),
    times.map((time) => Math.floor(time * 30 + 1e-6)),
  );
  assert.equal(open, 0);
});
