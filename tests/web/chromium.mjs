/** Pages in Chromium, with WebGPU on SwiftShader: the CPU as a GPU, on any machine. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { FIXTURES, MODELS, OUTPUT } from "./fixtures.mjs";
import { serve } from "./server.mjs";

const FLAGS = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

// Browsers write zeros to workgroup memory before a kernel runs. No kernel reads what it has not
// written, as natively, where this is left out; and SwiftShader compiles a store for each number,
// which takes most of the time until a model is there.
const WEBGPU = [
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--enable-dawn-features=disable_workgroup_init",
];

/** WebGPU as browsers ship it, zeros and all. */
export const AS_SHIPPED = ["--enable-dawn-features="];

/** A camera that shows a test picture, and is allowed without asking. */
export const CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];

/**
 * How Chromium is started.
 *
 * @param {string[]} flags Further ones.
 */
export const launchOptions = (flags) => ({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [...FLAGS, ...WEBGPU, ...flags],
});

/** The same for a browser that has no WebGPU, as it is where nobody enables it on Linux. */
const launchOptionsWithoutGpu = (/** @type {string[]} */ flags) => ({
  ...launchOptions([]),
  args: [...FLAGS, ...flags],
});

/** @param {string} path From the repository's root. */
const folder = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** What the pages of tests can fetch. */
const FOLDERS = {
  "/": folder("tests/web/"),
  "/fixtures/": join(FIXTURES, "/"),
  "/models/": join(MODELS, "/"),
  "/output/": join(OUTPUT, "/"),
  "/pkg/": folder("pkg/"),
  "/samples/": folder("www/public/samples/"),
};

/** Lets workers of the package load models from further servers of this machine. */
const OTHER_SERVERS = ["127.0.0.1", "localhost"].flatMap((host) => [
  "--connect-src",
  `http://${host}:*`,
]);

/**
 * Opens a page -> it, the server's address and the requests that it answered, and what closes
 * everything. An error that the page throws and nobody catches fails the test that closes it.
 *
 * @param {object} [options]
 * @param {Record<string, string>} [options.folders] What the server serves; by default what tests
 * of the package need.
 * @param {string} [options.path] The page's; by default an empty one.
 * @param {string[]} [options.flags] Further ones for Chromium.
 * @param {boolean} [options.webgpu] Whether there is a GPU.
 * @param {string[]} [options.serveFlags] Further ones for the server.
 * @param {import("playwright-core").BrowserContextOptions} [options.context]
 * @param {string} [options.profile] A folder for what the browser keeps; by default a private
 * window keeps it in memory, slowly, and little.
 * @param {number} [options.port] The server's, by default any: what a profile keeps belongs to it.
 */
export async function openPage({
  folders = FOLDERS,
  path = "empty.html",
  flags = [],
  webgpu = true,
  serveFlags = folders === FOLDERS ? OTHER_SERVERS : [],
  context = {},
  profile,
  port = 0,
} = {}) {
  const server = await serve(folders, serveFlags, port);
  const launch = webgpu ? launchOptions(flags) : launchOptionsWithoutGpu(flags);
  const browser = profile === undefined ? await chromium.launch(launch) : undefined;
  const opened = browser
    ? await browser.newContext(context)
    : await chromium.launchPersistentContext(profile ?? "", { ...launch, ...context });
  const page = await opened.newPage();
  /** @type {Error[]} */
  const uncaught = [];
  page.on("pageerror", (error) => uncaught.push(error));
  await page.goto(`${server.url}${path}`);
  return {
    page,
    url: server.url,
    requests: server.requests,
    close: async () => {
      await opened.close();
      await browser?.close();
      await server.close();
      if (uncaught[0]) throw uncaught[0];
    },
  };
}
