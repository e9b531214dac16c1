/**
 * The package as npm delivers it: packed, installed into fresh projects, bundled by what people
 * bundle with, and answering in each.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { build as esbuild } from "esbuild";
import { chromium } from "playwright-core";
import { build as vite } from "vite";
import webpack from "webpack";
import { CAMERA, launchOptions } from "./chromium.mjs";
import { MODELS, OUTPUT } from "./fixtures.mjs";
import { serve } from "./server.mjs";

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const SAMPLES = join(ROOT, "www/public/samples/");
const PROJECT = join(OUTPUT, "packed");
const PACKAGE = join(PROJECT, "node_modules/univi");

const APP = `import { Univi, UniviError, type TokenMap } from "univi";

async function main(): Promise<string> {
  const univi = await Univi.create({ model: "/models/univi-nano/manifest.json", device: "cpu", cache: "none" });
  const photo = await (await fetch("/samples/penguin-cookie.png")).blob();
  const answer = univi.ask([photo, "What is there from left to right?"], { temperature: 0 });
  const text: string = await answer.text();
  const maps: readonly TokenMap[] = await answer.tokenMaps();
  univi.dispose();
  return \`\${text}, \${maps.length} token map\`;
}

main().then(
  (said) => (document.title = said),
  (error: unknown) => (document.title = error instanceof UniviError ? error.code : String(error)),
);
`;

/** What would be published. */
let tarball = "";
/** @type {Awaited<ReturnType<typeof serve>>} */
let server;
/** @type {import("playwright-core").Browser} */
let browser;
before(async () => {
  await rm(PROJECT, { recursive: true, force: true });
  await mkdir(PROJECT, { recursive: true });
  const { stdout } = await run(
    "npm",
    ["pack", "--workspace", "univi", "--json", "--pack-destination", PROJECT],
    { cwd: ROOT },
  );
  const [{ filename }] = JSON.parse(stdout);
  tarball = join(PROJECT, filename);
  await writeFile(
    join(PROJECT, "package.json"),
    JSON.stringify({ name: "fresh", private: true, type: "module" }),
  );
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", `./${filename}`], {
    cwd: PROJECT,
  });
  await writeFile(join(PROJECT, "app.ts"), APP);
  await writeFile(
    join(PROJECT, "index.html"),
    `<!doctype html><script type="module" src="./app.ts"></script>`,
  );
  server = await serve({ "/": `${PROJECT}/`, "/models/": `${MODELS}/`, "/samples/": SAMPLES });
  browser = await chromium.launch(launchOptions(CAMERA));
});
after(async () => {
  await browser.close();
  await server.close();
});

/**
 * Opens a page of the project -> what it says in its title, once that is there.
 *
 * @param {string} path
 * @param {Record<string, string>} [servers] Whose requests are answered by which server.
 */
async function said(path, servers = {}) {
  const page = await browser.newPage();
  for (const [origin, url] of Object.entries(servers))
    await page.route(`${origin}/**`, async (route) => {
      const asked = new URL(route.request().url());
      const response = await route.fetch({ url: new URL(asked.pathname, url).href });
      await route.fulfill({ response });
    });
  page.on("console", (message) => message.type() === "error" && console.log(message.text()));
  await page.goto(`${server.url}${path}`);
  await page.waitForFunction(() => document.title !== "", undefined, { timeout: 240_000 });
  const title = await page.title();
  await page.close();
  return title;
}

const EXPECTED = "penguin and cookie, 1 token map";

test("strict TypeScript, with its libraries checked, takes its types", async () => {
  const options = {
    strict: true,
    noEmit: true,
    skipLibCheck: false,
    target: "ES2022",
    module: "ESNext",
    moduleResolution: "Bundler",
    types: [],
    lib: ["ES2022", "DOM", "DOM.Iterable", "DOM.AsyncIterable"],
    exactOptionalPropertyTypes: true,
  };
  const wrong = `import { Univi } from "univi";\n// @ts-expect-error A device that does not exist.\nvoid Univi.create({ model: "", device: "quantum" });\n// @ts-expect-error Nothing to ask.\n(null as unknown as Univi).ask();\n`;
  await writeFile(join(PROJECT, "wrong.ts"), wrong);
  await writeFile(
    join(PROJECT, "tsconfig.json"),
    JSON.stringify({ compilerOptions: options, files: ["app.ts", "wrong.ts"] }),
  );
  const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
  await run(process.execPath, [tsc, "-p", PROJECT]).catch(({ stdout }) => assert.fail(stdout));
});

test("it answers where Vite bundles", async () => {
  await vite({
    root: PROJECT,
    base: "./",
    logLevel: "error",
    configFile: false,
    build: { outDir: "vite", target: "es2022" },
  });
  assert.equal(await said("vite/index.html"), EXPECTED);
});

test("it answers where webpack bundles", async () => {
  // Types go first, as a loader would take them.
  await esbuild({
    entryPoints: [join(PROJECT, "app.ts")],
    outfile: join(PROJECT, "app.js"),
    format: "esm",
  });
  const compiler = webpack({
    mode: "production",
    context: PROJECT,
    entry: "./app.js",
    output: { path: join(PROJECT, "webpack") },
    performance: false,
  });
  /** @type {import("webpack").Stats | undefined} */
  const stats = await new Promise((resolve, reject) =>
    compiler?.run((error, stats) => (error ? reject(error) : resolve(stats))),
  );
  assert.equal(stats?.toString({ all: false, errors: true, warnings: true }), "");
  await writeFile(
    join(PROJECT, "webpack/index.html"),
    `<!doctype html><script src="./main.js"></script>`,
  );
  assert.equal(await said("webpack/index.html"), EXPECTED);
});

test("it answers where esbuild bundles, with the worker as an entry point", async () => {
  const entryPoints = { app: join(PROJECT, "app.ts"), worker: join(PACKAGE, "dist/worker.js") };
  await esbuild({
    entryPoints,
    outdir: join(PROJECT, "esbuild"),
    bundle: true,
    splitting: true,
    minify: true,
    format: "esm",
    logLevel: "error",
  });
  await copyFile(
    join(PACKAGE, "wasm/univi_web_bg.wasm"),
    join(PROJECT, "esbuild/univi_web_bg.wasm"),
  );
  await writeFile(
    join(PROJECT, "esbuild/index.html"),
    `<!doctype html><script type="module" src="./app.js"></script>`,
  );
  assert.equal(await said("esbuild/index.html"), EXPECTED);
});

test("it answers without any bundler", async () => {
  await esbuild({
    entryPoints: [join(PROJECT, "app.ts")],
    outfile: join(PROJECT, "app.js"),
    format: "esm",
  });
  const map = JSON.stringify({ imports: { univi: "./node_modules/univi/dist/index.js" } });
  await writeFile(
    join(PROJECT, "bare.html"),
    `<!doctype html><script type="importmap">${map}</script><script type="module" src="./app.js"></script>`,
  );
  assert.equal(await said("bare.html"), EXPECTED);
});

test("it answers where it comes from another origin", async () => {
  const cdn = await serve({ "/": PACKAGE });
  await esbuild({
    entryPoints: [join(PROJECT, "app.ts")],
    outfile: join(PROJECT, "app.js"),
    format: "esm",
  });
  const map = JSON.stringify({ imports: { univi: `${cdn.url}dist/index.js` } });
  await writeFile(
    join(PROJECT, "cdn.html"),
    `<!doctype html><script type="importmap">${map}</script><script type="module" src="./app.js"></script>`,
  );
  assert.equal(await said("cdn.html"), EXPECTED);
  await cdn.close();
});

// A script that npm need not run moves Bun's program from one package into the other.
const BUN = join(
  ROOT,
  `node_modules/@oven/bun-${process.platform}-${process.arch === "arm64" ? "aarch64" : process.arch}/bin/bun`,
);
const COMMANDS = {
  Node: [process.execPath],
  Deno: [join(ROOT, "node_modules/.bin/deno"), "run", "--allow-all", "--quiet"],
  Bun: [existsSync(BUN) ? BUN : join(ROOT, "node_modules/.bin/bun")],
};
for (const [name, [program = "", ...args]] of Object.entries(COMMANDS)) {
  test(`it answers in ${name}`, async () => {
    const [picture, clip] = [
      pathToFileURL(join(SAMPLES, "penguin-cookie.png")),
      pathToFileURL(join(SAMPLES, "penguin-moves.webm")),
    ];
    const code = `import { Univi } from "univi";
      const univi = await Univi.create({ model: ${JSON.stringify(join(MODELS, "univi-nano"))}, device: "cpu" });
      console.log(await univi.ask([new URL(${JSON.stringify(picture.href)}), "What is there from left to right?"], { temperature: 0 }).text());
      // What decodes clips is installed in a folder above.
      const clip = { video: new URL(${JSON.stringify(clip.href)}) };
      console.log(await univi.ask([clip, "Which way does the penguin move?"], { temperature: 0 }).text());
      univi.dispose();`;
    await writeFile(join(PROJECT, "server.mjs"), code);
    const { stdout } = await run(program, [...args, "server.mjs"], { cwd: PROJECT });
    assert.equal(stdout, "penguin and cookie\nright\n");
  });
}

test("in a folder that has nothing else, the default device answers", async () => {
  // Out of this repository, whose packages would be found as well.
  const folder = await mkdtemp(join(tmpdir(), "univi-alone-"));
  try {
    await writeFile(
      join(folder, "package.json"),
      JSON.stringify({ name: "alone", private: true, type: "module" }),
    );
    await run("npm", ["install", "--offline", "--no-audit", "--no-fund", tarball], { cwd: folder });
    const code = `import { Univi } from "univi";
      const model = ${JSON.stringify(join(MODELS, "univi-nano"))};
      const { status, device } = await Univi.availability({ model });
      const univi = await Univi.create({ model });
      const picture = new URL(${JSON.stringify(pathToFileURL(join(SAMPLES, "penguin-cookie.png")).href)});
      const answer = univi.ask([picture, "What is there from left to right?"], { temperature: 0 });
      console.log(status, device, univi.info.device, await answer.text());
      univi.dispose();
      await Univi.create({ model, device: "webgpu" }).catch(({ name, code }) => console.log(name, code));`;
    await writeFile(join(folder, "alone.mjs"), code);
    const { stdout, stderr } = await run(process.execPath, ["alone.mjs"], { cwd: folder });
    assert.equal(stdout, "available cpu cpu penguin and cookie\nUniviError no-gpu\n");
    assert.equal(stderr, "");
    await writeFile(join(folder, "required.cjs"), 'console.log(typeof require("univi").Univi);');
    const required = await run(process.execPath, ["--no-warnings", "required.cjs"], {
      cwd: folder,
    });
    assert.equal(required.stdout, "function\n");
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("what its maps and types point to is in it", async () => {
  for (const path of await readdir(join(PACKAGE, "dist"), { recursive: true })) {
    if (!path.endsWith(".map")) continue;
    const map = join(PACKAGE, "dist", path);
    const { sources, sourcesContent } = JSON.parse(await readFile(map, "utf8"));
    for (const [index, source] of sources.entries())
      assert.ok(
        sourcesContent?.[index] || existsSync(join(map, "..", source)),
        `${path}: ${source}`,
      );
  }
  const license = await readFile(join(PACKAGE, "LICENSE"), "utf8");
  assert.equal(license, await readFile(join(ROOT, "LICENSE"), "utf8"));
});

for (const readme of ["README.md", "pkg/README.md"]) {
  test(`the examples of ${readme} run as they stand`, async () => {
    const text = await readFile(join(ROOT, readme), "utf8");
    // Whoever watches would go on doing so.
    const examples = [...text.matchAll(/^```ts\n(.*?)^```/gms)].map(([, code = ""]) =>
      code.includes("const live") ? `${code}live.stop();` : code,
    );
    assert.ok(examples.length > 0);
    const given = `
      const get = async (name, type) => new File([await (await fetch("/samples/" + name)).arrayBuffer()], name, { type });
      const [photo, clip] = [await get("penguin-cookie.png", "image/png"), await get("penguin-moves.webm", "video/webm")];
      const cameraStream = await navigator.mediaDevices.getUserMedia({ video: true });
      const [bar, { signal }, out] = [() => {}, new AbortController(), document.body];`;
    const name = `readme-${readme.replace(/\W/g, "-")}`;
    await writeFile(
      join(PROJECT, `${name}.js`),
      `${given}\n${examples.join("\n")}\ndocument.title = "done: " + document.body.textContent;`,
    );
    const map = JSON.stringify({ imports: { univi: "./node_modules/univi/dist/index.js" } });
    const failed = `<script>onerror = (event) => document.title = event; onunhandledrejection = ({ reason }) => document.title = reason;</script>`;
    await writeFile(
      join(PROJECT, `${name}.html`),
      `<!doctype html>${failed}<script type="importmap">${map}</script><script type="module" src="./${name}.js"></script>`,
    );
    const flags = ["--model", join(MODELS, "univi-nano"), "--device", "cpu", "--api-key", "KEY"];
    const models = await serve({ "/": SAMPLES }, [
      ...flags,
      "--allow-origin",
      new URL(server.url).origin,
    ]);
    try {
      const title = await said(`${name}.html`, { "https://models.example.org": models.url });
      assert.match(title, /^done: ./);
    } finally {
      await models.close();
    }
  });
}

test("publint and attw find nothing", async () => {
  const { publint } = await import("publint");
  const { messages } = await publint({ pkgDir: PACKAGE, strict: true });
  assert.deepEqual(messages, []);
  const attw = join(
    createRequire(import.meta.url).resolve("@arethetypeswrong/cli/package.json"),
    "../dist/index.js",
  );
  // What tools for CommonJS alone get is an error that says so: it has no types.
  const rules = ["--profile", "esm-only", "--ignore-rules", "false-esm"];
  await run(process.execPath, [attw, tarball, ...rules]).catch(({ stdout }) => assert.fail(stdout));
});

test("the reference leaves nothing out", async () => {
  await run("npm", ["run", "docs", "--workspace", "univi", "--", "--emit", "none"], {
    cwd: ROOT,
  }).catch(({ stdout, stderr }) => assert.fail(stdout + stderr));
});

test("it stays small", async () => {
  const wasm = await readFile(join(PACKAGE, "wasm/univi_web_bg.wasm"));
  const packed = brotliCompressSync(wasm, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: 10,
      [constants.BROTLI_PARAM_SIZE_HINT]: wasm.length,
    },
  });
  assert.ok(packed.length < 1_500_000, `the module is ${packed.length} bytes with brotli`);
  const entryPoints = {
    app: join(PACKAGE, "dist/index.js"),
    worker: join(PACKAGE, "dist/worker.js"),
  };
  const { outputFiles, metafile } = await esbuild({
    entryPoints,
    outdir: PROJECT,
    bundle: true,
    splitting: true,
    minify: true,
    format: "esm",
    write: false,
    metafile: true,
  });
  assert.ok(metafile);
  // What comes with the first clip, and what comes to pages that ask a server.
  const onDemand = ["/clip/demuxer.js", "/dist/clip.js", "/remote/host.js"].map((module) => {
    const holds = ({ inputs = {} }) => Object.keys(inputs).some((path) => path.endsWith(module));
    const [script] = Object.entries(metafile.outputs).find(([, output]) => holds(output)) ?? [];
    assert.ok(script, `${module} is in no script`);
    return basename(script);
  });
  const atOnce = outputFiles.filter(({ path }) => !onDemand.includes(basename(path)));
  assert.equal(atOnce.length, outputFiles.length - 3, "each is a script of its own");
  const apart = Object.keys(entryPoints).map((name) => `${name}.js`);
  assert.ok(!apart.some((name) => onDemand.includes(name)), "and none is an entry");
  const bytes = atOnce.reduce((sum, { contents }) => sum + gzipSync(contents).length, 0);
  assert.ok(
    bytes < 50_000,
    `the scripts are ${bytes} bytes with gzip before the first clip is opened`,
  );
});
