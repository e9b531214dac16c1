/**
 * One clip in seven containers: at a constant rate, at a variable one, recorded without a rate, cut
 * by an edit list, put together by one, with a size that changes midway, and broken off before the
 * length that its header states. The command line, Node and Chromium sample the same moments of
 * each and give the same answers.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { Univi } from "univi";
import { openPage } from "./chromium.mjs";
import { MODELS, OUTPUT, UNIVI } from "./fixtures.mjs";

const run = promisify(execFile);
const NANO = join(MODELS, "univi-nano");
const SAMPLES = fileURLToPath(new URL("../../www/public/samples/", import.meta.url));

const QUESTIONS = ["What appears first?", "What appears last?", "Can you see a cake at any time?"];

const H264 = ["-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuv420p"];
const VP8 = ["-c:v", "libvpx", "-crf", "4", "-b:v", "4M", "-deadline", "realtime"];

/** @param {string[]} args */
const ffmpeg = (...args) =>
  run("ffmpeg", ["-y", "-loglevel", "error", ...args], { cwd: OUTPUT, encoding: "buffer" });

/**
 * Makes the field that names a Matroska track's rate a void one, as recorders leave it out.
 *
 * @param {Buffer} bytes
 */
function withoutRate(bytes) {
  const at = bytes.indexOf(Buffer.from([0x23, 0xe3, 0x83])); // DefaultDuration
  assert.ok(at > 0);
  const length = 4 + ((bytes[at + 3] ?? 0) & 0x7f);
  bytes[at] = 0xec;
  bytes[at + 1] = 0x80 | (length - 2);
  return bytes;
}

/**
 * Gives the one track of an MP4 file other parts to show, in seconds of it.
 *
 * @param {Buffer} file Its header `moov` lies behind the pictures, so that it may grow.
 * @param {readonly { from: number, length: number }[]} parts
 */
function withParts(file, parts) {
  /** @param {string} type @param {number} [from] */
  const place = (type, from = 0) => file.indexOf(type, from, "latin1") - 4;
  const moov = place("moov");
  const [trak, edts] = [place("trak", moov), place("edts", moov)];
  const movieRate = file.readUInt32BE(place("mvhd", moov) + 20);
  const trackRate = file.readUInt32BE(place("mdhd", moov) + 20);
  const list = Buffer.alloc(24 + 12 * parts.length);
  list.writeUInt32BE(list.length, 0);
  list.write("edts", 4, "latin1");
  list.writeUInt32BE(list.length - 8, 8);
  list.write("elst", 12, "latin1");
  list.writeUInt32BE(parts.length, 20);
  for (const [index, { from, length }] of parts.entries()) {
    list.writeUInt32BE(length * movieRate, 24 + 12 * index);
    list.writeInt32BE(from * trackRate, 28 + 12 * index);
    list.writeUInt16BE(1, 32 + 12 * index); // The speed.
  }
  const before = file.readUInt32BE(edts);
  const changed = Buffer.concat([file.subarray(0, edts), list, file.subarray(edts + before)]);
  for (const at of [moov, trak])
    changed.writeUInt32BE(file.readUInt32BE(at) + list.length - before, at);
  return changed;
}

const CLIPS = [
  "constant.mp4",
  "variable.mp4",
  "recorded.mkv",
  "edited.mp4",
  "parts.mp4",
  "resized.webm",
  "broken-off.webm",
];

before(async () => {
  const film = join(SAMPLES, "unicorn-cake-owl.webm");
  await ffmpeg("-i", film, "-vf", "fps=24", ...H264, "constant.mp4");
  // Some frames of each second, and the first one.
  const some = "select='not(mod(n,24))+gt(random(1),0.6)'";
  await ffmpeg("-i", "constant.mp4", "-vf", some, "-fps_mode", "vfr", ...H264, "variable.mp4");
  // Through a pipe, so that no length is written either.
  const live = ["-f", "matroska", "-live", "1", "pipe:1"];
  const { stdout } = await ffmpeg("-i", "constant.mp4", ...VP8, ...live);
  await writeFile(join(OUTPUT, "recorded.mkv"), withoutRate(stdout));
  // Two and a half seconds of something else come first, in one group of pictures.
  const still = ["-loop", "1", "-framerate", "24", "-t", "2.5"];
  await ffmpeg(
    ...[...still, "-i", join(SAMPLES, "train-zebra.png"), "-i", "constant.mp4", "-filter_complex"],
    "[0:v]scale=384:384,fps=24,format=yuv420p,setsar=1[a];[1:v]setsar=1[b];[a][b]concat=n=2:v=1",
    ...["-g", "1000", "-keyint_min", "1000", "-sc_threshold", "0", ...H264, "longer.mp4"],
  );
  await ffmpeg("-ss", "2.5", "-i", "longer.mp4", "-c", "copy", "edited.mp4");
  // Its second half, something else, its first half: shown in the right order, without the rest.
  await ffmpeg(
    ...["-i", "constant.mp4", ...still, "-i", join(SAMPLES, "train-zebra.png"), "-filter_complex"],
    "[0:v]trim=8,setpts=PTS-STARTPTS,setsar=1[b];[1:v]scale=384:384,fps=24,setsar=1[x];" +
      "[0:v]trim=0:8,setsar=1[a];[b][x][a]concat=n=3:v=1,format=yuv420p",
    ...[...H264, "-bf", "0", "mixed.mp4"],
  );
  const mixed = await readFile(join(OUTPUT, "mixed.mp4"));
  const halves = [
    { from: 10.5, length: 8 },
    { from: 0, length: 8 },
  ];
  await writeFile(join(OUTPUT, "parts.mp4"), withParts(mixed, halves));
  await ffmpeg("-t", "9", "-i", "constant.mp4", ...VP8, "large.webm");
  await ffmpeg("-ss", "9", "-i", "constant.mp4", "-vf", "scale=256:256", ...VP8, "small.webm");
  await writeFile(join(OUTPUT, "resized.txt"), "file large.webm\nfile small.webm\n");
  await ffmpeg("-f", "concat", "-i", "resized.txt", "-c", "copy", "resized.webm");
  // Four seconds more, which the header counts, and which never came, or half of them and three
  // bytes.
  const frozen = ["-vf", "tpad=stop_mode=clone:stop_duration=4", "-g", "96"];
  await ffmpeg("-i", "constant.mp4", ...frozen, ...VP8, "planned.webm");
  const planned = await readFile(join(OUTPUT, "planned.webm"));
  await writeFile(join(OUTPUT, "broken-off.webm"), planned.subarray(0, await packetAt(16)));
  await writeFile(join(OUTPUT, "cut-block.webm"), planned.subarray(0, (await packetAt(18)) + 3));
});

/**
 * Where the first packet of planned.webm from `seconds` on lies, in bytes.
 *
 * @param {number} seconds
 */
async function packetAt(seconds) {
  const args = ["-v", "error", "-show_entries", "packet=pts_time,pos", "-of", "csv=p=0"];
  const { stdout } = await run("ffprobe", [...args, "planned.webm"], { cwd: OUTPUT });
  const packets = stdout.split("\n").map((line) => line.split(",").map(Number));
  const found = packets.find(([time = 0]) => time >= seconds);
  assert.ok(found?.[1], stdout);
  return found[1];
}

/** @typedef {{ answers: string[], times: number[] }} Asked Times are the moments of the frames. */

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
/** @type {Univi} */
let univi;
before(async () => {
  opened = await openPage();
  await opened.page.evaluate(async () => {
    const { Univi } = await import(`${location.origin}/pkg/dist/index.js`);
    const univi = await Univi.create({ model: "/models/univi-nano/manifest.json", device: "cpu" });
    Object.assign(globalThis, { univi });
  });
  univi = await Univi.create({ model: NANO, device: "cpu" });
});
after(async () => {
  univi.dispose();
  await opened.close();
});

/**
 * Asks all questions about a clip of the disk, on the command line -> the answers, and how many
 * frames they are about.
 *
 * @param {string} name
 */
async function inShell(name) {
  const answers = [];
  let frames = 0;
  for (const question of QUESTIONS) {
    const args = ["-m", NANO, "--device", "cpu", "--greedy", "--json"];
    const { stdout } = await run(UNIVI, ["ask", ...args, "--video", join(OUTPUT, name), question]);
    const said = JSON.parse(stdout);
    answers.push(said.answer);
    frames = said.visuals[0].events.flat().length;
  }
  return { answers, frames };
}

/**
 * @param {string} name
 * @returns {Promise<Asked>}
 */
async function inNode(name) {
  const answers = [];
  /** @type {number[]} */
  let times = [];
  for (const question of QUESTIONS) {
    const video = pathToFileURL(join(OUTPUT, name));
    const answer = univi.ask([{ video }, question], { temperature: 0 });
    answers.push(await answer.text());
    times = ((await answer.tokenMaps())[0]?.frames ?? []).map(({ timeSeconds }) => timeSeconds);
  }
  return { answers, times };
}

/**
 * @param {string} name
 * @param {boolean} [asFile] Whether the page has the file, instead of its address.
 * @returns {Promise<Asked>}
 */
function inChromium(name, asFile = false) {
  return opened.page.evaluate(
    async ({ name, asFile, questions }) => {
      const { univi } = /** @type {{ univi: Univi }} */ (/** @type {unknown} */ (globalThis));
      const answers = [];
      /** @type {number[]} */
      let times = [];
      for (const question of questions) {
        const address = new URL(`/output/${name}`, location.href);
        const video = asFile ? await (await fetch(address)).blob() : address;
        const answer = univi.ask([{ video }, question], { temperature: 0 });
        answers.push(await answer.text());
        times = ((await answer.tokenMaps())[0]?.frames ?? []).map(({ timeSeconds }) => timeSeconds);
      }
      return { answers, times };
    },
    { name, asFile, questions: QUESTIONS },
  );
}

const EXPECTED = {
  answers: ["unicorn", "owl", "yes"],
  times: Array.from({ length: 16 }, (_, second) => second),
};

for (const name of CLIPS) {
  test(`the same moments and answers everywhere: ${name}`, async () => {
    const { answers, times } = EXPECTED;
    assert.deepEqual(await inShell(name), { answers, frames: times.length }, "command line");
    assert.deepEqual(await inNode(name), EXPECTED, "Node");
    assert.deepEqual(await inChromium(name), EXPECTED, "Chromium");
  });
}

test("a file whose last cluster is cut is seen up to its last whole frame", async () => {
  const name = "cut-block.webm";
  const times = Array.from({ length: 18 }, (_, second) => second);
  const { answers, frames } = await inShell(name);
  assert.equal(frames, times.length, "command line");
  assert.deepEqual(await inNode(name), { answers, times }, "Node");
  assert.deepEqual(await inChromium(name, true), { answers, times }, "Chromium");
});
