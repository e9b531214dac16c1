/**
 * Measures UniVi beside what people use instead, each in a fresh browser or process, in turn, and
 * prints a table. `cargo xtask bench --peers` installs and makes what it needs.
 */
import { execFile } from "node:child_process";
import { cp, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { chromium } from "playwright-core";
import { launchOptions } from "../web/chromium.mjs";
import { UNIVI } from "../web/fixtures.mjs";
import { serve } from "../web/server.mjs";

const run = promisify(execFile);
const HERE = fileURLToPath(new URL(".", import.meta.url));
const ROOT = join(HERE, "../..");
const LIMIT_MS = 600_000;

const { values: options } = parseArgs({
  options: { models: { type: "string" }, only: { type: "string" }, json: { type: "string" } },
});
const { models } = options;
if (!models) throw new Error("usage: node peers.mjs --models FOLDER [--only NAME] [--json FILE]");
const gguf = join(ROOT, "models/SmolLM2-135M-Instruct.Q4_1.gguf");
const prompts = JSON.parse(await readFile(join(models, "prompts.json"), "utf8"));

/**
 * A row of the table: the same work of several, the first of which is UniVi.
 *
 * @typedef {{ name: string, unit: string, figure: string,
 * engines: [string, () => Promise<any>][] }} Row
 */

/** What was measured, by its name: rows share runs. @type {Map<string, Promise<any>>} */
const measured = new Map();

/** @param {string} name @param {() => Promise<any>} measure */
const once = (name, measure) => () => {
  const known = measured.get(name) ?? measure().catch((error) => ({ error: String(error) }));
  measured.set(name, known);
  return known;
};

/** @param {{ engine: string, device: string, model: string, batch?: number }} job */
const inPage = (job, on = "chromium") =>
  once(JSON.stringify([job, on]), async () => {
    const server = await serve({
      "/": HERE,
      "/npm/": join(HERE, "node_modules"),
      "/pkg/": join(ROOT, "pkg"),
      "/models/": models,
      "/gguf/": join(ROOT, "models"),
    });
    const launch = launchOptions([]);
    const browser = await chromium.launch(
      on === "lavapipe"
        ? {
            ...launch,
            executablePath: await chromiumOnLavapipe(),
            args: [...launch.args, "--disable-gpu-sandbox"],
          }
        : launch,
    );
    try {
      const protocol = await browser.newBrowserCDPSession();
      const page = await browser.newPage();
      await page.exposeFunction("cpuSeconds", async () => {
        const { processInfo } = await protocol.send("SystemInfo.getProcessInfo");
        return processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0);
      });
      await page.goto(`${server.url}page.html`);
      await page.waitForFunction("globalThis.isReady");
      const measure = page.evaluate((job) => globalThis.measure(job), {
        ...job,
        prompt: prompts["256"],
      });
      const late = new Promise((_, reject) => {
        setTimeout(() => reject(new Error("took more than ten minutes")), LIMIT_MS).unref();
      });
      return await Promise.race([measure, late]);
    } finally {
      await browser.close();
      await server.close();
    }
  });

/** Makes a copy of Chromium whose software adapter is lavapipe -> its program. */
async function chromiumOnLavapipe() {
  const folder = join(models, "chromium-on-lavapipe");
  const { executablePath } = launchOptions([]);
  // What /usr/bin has is a script beside which nothing lies.
  const real =
    executablePath === "/usr/bin/chromium" ? "/usr/lib/chromium/chromium" : executablePath;
  const from = join(real, "..");
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const ours = ["libvk_swiftshader.so", "vk_swiftshader_icd.json"];
  for (const name of await readdir(from))
    if (!ours.includes(name) && join(from, name) !== real)
      await symlink(join(from, name), join(folder, name));
  // A program looks for its libraries beside itself, behind links.
  const program = join(folder, "chromium");
  await cp(real, program, { dereference: true });
  const library = join(folder, "libvk_swiftshader.so");
  const { stdout: libraries } = await run("ldconfig", ["-p"]);
  const loader = /libvulkan\.so\.1 .*=> (\S+)/.exec(libraries)?.[1];
  if (!loader) throw new Error("there is no Vulkan loader: install libvulkan1");
  await run("gcc", [
    ...["-shared", "-fPIC", "-O1", `-DLOADER="${loader}"`],
    '-DLAVAPIPE="/usr/share/vulkan/icd.d/lvp_icd.json"',
    ...[join(HERE, "lavapipe.c"), "-o", library, "-ldl"],
  ]);
  // What draws the page reads this file, and keeps SwiftShader.
  const original = join(from, "libvk_swiftshader.so");
  const driver = { library_path: original, api_version: "1.0.5" };
  const icd = { file_format_version: "1.0.0", ICD: driver };
  await writeFile(join(folder, "vk_swiftshader_icd.json"), JSON.stringify(icd));
  return program;
}

/** On one core, so that nobody has a second thread. @param {string[]} command */
const onOneCore = async (command) => {
  const { stdout } = await run("taskset", ["-c", "0", ...command], { maxBuffer: 1 << 24 });
  return JSON.parse(stdout);
};

const llamaCpp = once("llama.cpp", () =>
  onOneCore(["node", join(HERE, "llama-cpp.mjs"), gguf, join(models, "prompts.json")]),
);

const BENCH = [
  ...["bench", "--model", gguf, "--json", "--rounds", "3"],
  ...["--prompts", "256", "--contexts", "256", "--answer", "16"],
];
/** What `univi bench` says, by this table's names. @param {any} report */
const figures = ({ reading: [prompt], answering: [answer] }) => ({
  prefill: prompt.count / prompt.seconds.median,
  decode: 1 / answer.seconds.median,
  ...answer.gpu,
});
const native = once("univi bench", async () =>
  figures(await onOneCore([UNIVI, ...BENCH, "--device", "cpu"])),
);
const nativeGpu = once("univi bench gpu", async () => {
  const { stdout } = await run(UNIVI, [...BENCH, "--device", "gpu"], { maxBuffer: 1 << 24 });
  return figures(JSON.parse(stdout));
});

const language = (engine, device, on) => inPage({ engine, device, model: "language" }, on);
const vision = (engine, device, batch, on) =>
  inPage({ engine, device, model: "vision", batch }, on);

/** @type {Row[]} */
const ROWS = [
  ...["decode", "prefill"].map((figure) => ({
    name: `${figure === "decode" ? "answer after" : "prompt of"} 256 tokens, WebAssembly, 1 thread`,
    unit: "tokens/s",
    figure,
    engines: [
      ["UniVi, Q4_1", language("univi", "wasm")],
      ["wllama, Q4_1", language("wllama", "wasm")],
      ["onnxruntime-web, f32", language("onnxruntime", "wasm")],
    ],
  })),
  ...["decode", "prefill"].map((figure) => ({
    name: `${figure === "decode" ? "answer after" : "prompt of"} 256 tokens, WebGPU on lavapipe`,
    unit: "tokens/s",
    figure,
    engines: [
      ["UniVi, Q4_1", language("univi", "webgpu", "lavapipe")],
      ["transformers.js, 4 bits", language("transformers", "webgpu", "lavapipe")],
    ],
  })),
  ...["decode", "prefill"].map((figure) => ({
    name: `${figure === "decode" ? "answer after" : "prompt of"} 256 tokens, natively, 1 thread`,
    unit: "tokens/s",
    figure,
    engines: [
      ["UniVi, Q4_1", native],
      ["llama.cpp, Q4_1", llamaCpp],
    ],
  })),
  ...["dispatches", "reads", "read_bytes"].map((figure) => ({
    name: `a token, natively on lavapipe: ${figure.replace("_", " ")}`,
    unit: "",
    figure,
    engines: [["UniVi, Q4_1", nativeGpu]],
  })),
  {
    name: "CLIP ViT-B/16, a picture, WebAssembly, 1 thread",
    unit: "s",
    figure: "seconds",
    engines: [
      ["UniVi", vision("univi", "wasm", 1)],
      ["onnxruntime-web", vision("onnxruntime", "wasm", 1)],
    ],
  },
  ...[1, 8].map((batch) => ({
    name: `CLIP ViT-B/16, a picture of ${batch}, WebGPU on lavapipe`,
    unit: "s",
    figure: "seconds",
    engines: [
      ["UniVi", vision("univi", "webgpu", batch, "lavapipe")],
      ["onnxruntime-web", vision("onnxruntime", "webgpu", batch, "lavapipe")],
    ],
  })),
];

/** Three digits that count. @param {number} value */
const short = (value) => (Number.isInteger(value) ? String(value) : value.toPrecision(3));

const wanted = ROWS.filter(({ name }) => name.includes(options.only ?? ""));
if (wanted.length === 0) throw new Error(`no row has ${options.only} in its name`);
const lines = [];
const report = [];
for (const { name, unit, figure, engines } of wanted) {
  const cells = [];
  const row = { name, unit, engines: {} };
  let own;
  for (const [engine, measure] of engines) {
    process.stderr.write(`${name}: ${engine} ..\n`);
    const result = await measure();
    row.engines[engine] = result;
    const value = result[figure];
    if (result.error || value === undefined) {
      process.stderr.write(`  ${result.error ?? `nothing of ${figure}`}\n`);
      cells.push(`${engine}: -`);
      continue;
    }
    own ??= value;
    // Above 1 UniVi is the faster.
    const ratio = unit === "s" ? value / own : own / value;
    cells.push(`${engine}: ${short(value)}${cells.length > 0 ? ` (${ratio.toFixed(2)} x)` : ""}`);
  }
  report.push(row);
  lines.push(`| ${name} | ${unit} | ${cells.join("; ")} |`);
  if (options.json) await writeFile(options.json, JSON.stringify(report, null, 2));
}
console.log("| what | unit | medians; in brackets, how many times as fast UniVi is |");
console.log("| --- | --- | --- |");
for (const line of lines) console.log(line);
