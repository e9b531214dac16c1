/** A page in Chromium, with WebGPU on SwiftShader: the CPU as a GPU, on any machine. */
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { serve } from "../../www/serve.mjs";

const FLAGS = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
];

/** @param {string} path From the repository's root. */
const folder = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** What the pages of tests can fetch. */
const FOLDERS = {
  "/": folder("tests/web/"),
  "/fixtures/": process.env.UNIVI_FIXTURES ?? folder("tests/fixtures/"),
  "/models/": folder("models/"),
  "/pkg/": folder("pkg/"),
  "/www/": folder("www/dist/"),
};

/**
 * Opens an empty page -> it, the server's address, and what closes everything. An error that the page throws and nobody catches fails
 * the test that closes it.
 */
export async function openPage() {
  const server = await serve(FOLDERS, 0);
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
  const page = await browser.newPage();
  /** @type {Error[]} */
  const uncaught = [];
  page.on("pageerror", (error) => uncaught.push(error));
  await page.goto(`${server.url}empty.html`);
  return {
    page,
    url: server.url,
    close: async () => {
      await browser.close();
      await server.close();
      if (uncaught[0]) throw uncaught[0];
    },
  };
}
