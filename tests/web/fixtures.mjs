/** The fixtures and models that tests read, from Node's side. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { cp, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("../../", import.meta.url));
const run = promisify(execFile);

/** The command line: the program that `UNIVI` names, else the one that `cargo test` has built. */
export const UNIVI =
  process.env.UNIVI ?? join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "debug/univi");

/** What tests write and a person may want to look at. */
export const OUTPUT = join(root, "tests/output");
await mkdir(OUTPUT, { recursive: true });

/** The fixtures: the folder that `UNIVI_FIXTURES` names, else the one in this repository. */
export const FIXTURES = process.env.UNIVI_FIXTURES ?? join(root, "tests/fixtures");

/** Real models: the folder that `UNIVI_MODELS` names, else the one in this repository. */
export const MODELS = process.env.UNIVI_MODELS ?? join(root, "models");

/** Every fixture file, as a path with `/` from their folder. */
export async function fixturePaths() {
  const entries = await readdir(FIXTURES, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files
    .map((entry) =>
      join(entry.path, entry.name)
        .slice(FIXTURES.length + 1)
        .replaceAll("\\", "/"),
    )
    .sort();
}

/**
 * The file name, below `MODELS`, of the real model that the fixtures in `expected` are about.
 *
 * @param {string} expected From the fixtures' folder.
 */
export async function realModel(expected) {
  const { info } = JSON.parse(await readFile(join(FIXTURES, expected), "utf8"));
  for (const name of await readdir(MODELS)) {
    const path = join(MODELS, name);
    const { size } = await stat(path);
    if (size !== info.size) continue;
    if (
      createHash("sha256")
        .update(await readFile(path))
        .digest("hex") === info.sha256
    )
      return name;
  }
  throw new Error(
    `the model of SHA-256 ${info.sha256} is not below ${MODELS}; \`cargo xtask models\` brings it`,
  );
}

/** A whole small Chat-UniVi as it is published, with what the reference says when asked. */
const E2E = join(FIXTURES, "golden/e2e");

/**
 * What the command line answers.
 *
 * @param {string[]} args Of `univi ask`.
 */
export async function ask(...args) {
  const { stdout } = await run(UNIVI, ["ask", ...args]);
  return stdout.replace(/\n$/, "");
}

/**
 * Converts a checkpoint as a user does -> the model's folder.
 *
 * @param {string} checkpoint
 * @param {string} name Of the folder below `OUTPUT`.
 * @param {string[]} flags
 */
export async function convert(checkpoint, name, flags) {
  const out = join(OUTPUT, name);
  await rm(out, { recursive: true, force: true });
  await run(UNIVI, ["convert", checkpoint, ...flags, "--out", out]);
  return out;
}

/** Converts the small Chat-UniVi -> the name of its folder below `OUTPUT`. */
export async function tinyModel() {
  const name = "chat-univi-tiny";
  // Nearly as stored: the reference's answers are those of unquantized weights.
  const flags = ["--quant", "f16", "--shard-size", "256KiB"];
  await convert(join(E2E, "checkpoint"), name, flags);
  return name;
}

/**
 * Writes the checkpoint of the model that ships, its tower in a repository of its own -> the folder
 * of their owner's.
 *
 * @param {string} owner
 */
export async function nanoCheckpoint(owner) {
  const out = join(OUTPUT, "nano-checkpoint");
  await rm(out, { recursive: true, force: true });
  await run(join(dirname(UNIVI), "nano-checkpoint"), [join(MODELS, "univi-nano"), out, owner]);
  return out;
}

/**
 * The model that ships, but the token of a word is its end of answers -> the name of its folder
 * below `OUTPUT`. Where it would begin with that word, it says nothing.
 *
 * @param {string} word
 */
export async function nanoThatEndsAt(word) {
  const name = `nano-ends-at-${word}`;
  const out = join(OUTPUT, name);
  await cp(join(MODELS, "univi-nano"), out, { recursive: true });
  const manifest = JSON.parse(await readFile(join(out, "manifest.json"), "utf8"));
  const llm = manifest.files.find((/** @type {{ role: string }} */ file) => file.role === "llm");
  const gguf = await readFile(join(out, llm.path));
  const behind = (/** @type {string} */ key) => gguf.indexOf(key) + key.length;
  // An array: its type, that of its strings, their number; each string behind its length.
  let at = behind("tokenizer.ggml.tokens") + 8;
  const tokens = Number(gguf.readBigUInt64LE(at));
  at += 8;
  let id = 0;
  for (; id < tokens; id++) {
    const start = at + 8;
    at = start + Number(gguf.readBigUInt64LE(at));
    if (gguf.toString("utf8", start, at) === `\u2581${word}`) break;
  }
  if (id === tokens) throw new Error(`no token of its own for ${word}`);
  gguf.writeUInt32LE(id, behind("tokenizer.ggml.eos_token_id") + 4);
  llm.sha256 = createHash("sha256").update(gguf).digest("hex");
  await writeFile(join(out, llm.path), gguf);
  await writeFile(join(out, "manifest.json"), JSON.stringify(manifest));
  return name;
}

/**
 * What the reference was asked under this name, and what it said.
 *
 * @param {string} name
 * @returns {Promise<{ question: string, template: string, answer: string, tokens: number, files:
 * string[] }>} `files` as paths from the fixtures' folder.
 */
export async function referenceAnswer(name) {
  const { cases } = JSON.parse(await readFile(join(E2E, "cases.json"), "utf8"));
  const found = cases.find((/** @type {{ name: string }} */ one) => one.name === name);
  // The last thing that the user says, after the frames.
  const [, question] =
    /(?:Human|USER): (?:<image>)*\n?([^<]*?)(?:###Assistant:| ASSISTANT:)$/s.exec(found.prompt) ??
    [];
  if (question === undefined) throw new Error(`no question in ${found.prompt}`);
  return {
    question,
    template: found.conv_mode,
    answer: found.final_text,
    tokens: found.greedy_ids.length,
    files: found.images.map((/** @type {string} */ file) => `golden/e2e/${file}`),
  };
}

/**
 * Frames as a clip of one per second, as they are: VP9 without loss, in RGB.
 *
 * @param {string[]} files From the fixtures' folder; all but their numbers the same.
 * @param {string} name Of the clip, below `OUTPUT`.
 */
export async function clipOf(files, name) {
  const [first] = files;
  if (first === undefined) throw new Error("a clip needs frames");
  const pattern = join(
    FIXTURES,
    first.replace(/\d+(?=\.png$)/, (digits) => `%0${digits.length}d`),
  );
  const encode = ["-c:v", "libvpx-vp9", "-lossless", "1", "-pix_fmt", "gbrp"];
  await run("ffmpeg", [
    "-y",
    "-loglevel",
    "error",
    "-framerate",
    "1",
    "-i",
    pattern,
    ...encode,
    join(OUTPUT, name),
  ]);
  return name;
}
