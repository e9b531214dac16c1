/** The page's camera: what it saw is answered right, and a camera that can't be had is told. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { CAMERA, openPage } from "./chromium.mjs";
import { MODELS, OUTPUT } from "./fixtures.mjs";

const at = (/** @type {string} */ path) => fileURLToPath(new URL(`../../www/${path}`, import.meta.url));
const SCREENSHOTS = join(OUTPUT, "screenshots");

/** @param {string[]} flags */
async function open(flags) {
  await mkdir(SCREENSHOTS, { recursive: true });
  await mkdir(join(OUTPUT, "camera-index"), { recursive: true });
  await writeFile(join(OUTPUT, "camera-index/index.json"), JSON.stringify([{ name: "UniVi nano", url: "nano/manifest.json" }]));
  const folders = { "/": at("dist/"), "/models/": join(OUTPUT, "camera-index/"), "/nano/": join(MODELS, "univi-nano/") };
  const opened = await openPage({ folders, path: "", flags });
  opened.page.setDefaultTimeout(120_000);
  return opened;
}

test("what the camera saw is answered right, and shown", async () => {
  // The camera is pointed at a sample.
  const film = join(OUTPUT, "camera.y4m");
  const scale = "scale=320:320,pad=428:320:54:0:red";
  await promisify(execFile)("ffmpeg", ["-y", "-loglevel", "error", "-loop", "1", "-i", at("public/samples/penguin-cookie.png"), "-t", "2", "-r", "10", "-vf", scale, "-pix_fmt", "yuv420p", film]);
  const { page, close } = await open([...CAMERA, `--use-file-for-fake-video-capture=${film}`]);
  await page.getByText("Settings").click();
  await page.getByLabel("Temperature").fill("0");
  await page.getByLabel("Runs on").selectOption("cpu");
  await page.getByRole("button", { name: "Camera", exact: true }).click();
  await page.getByLabel("What the camera sees").waitFor();
  /** @param {string} question */
  const ask = async (question) => {
    const turns = await page.locator(".turn").count();
    await page.getByLabel("Your question").fill(question);
    await page.keyboard.press("Enter");
    await page.locator(".turn").nth(turns).locator('.answer[aria-busy="false"]').waitFor();
    return page.locator(".answer").nth(turns).textContent();
  };
  // The model is loaded with the first question, and looks then.
  assert.equal(await ask("Can you see a penguin at any time?"), "yes");
  await page.getByText(/Watching: [2-9] frames of the last \d+ s/).waitFor();
  assert.equal(await ask("Can you see a whale at any time?"), "no");
  await page.getByRole("heading", { name: /^Event 1: 0:0/ }).waitFor();
  assert.ok((await page.locator("univi-events button").count()) >= 2);
  await page.screenshot({ path: join(SCREENSHOTS, "camera.png"), fullPage: true });

  await page.getByRole("button", { name: "Turn off" }).click();
  await page.getByLabel("What the camera sees").waitFor({ state: "hidden" });
  await page.getByRole("button", { name: "Camera", exact: true }).waitFor();
  await close();
});

test("a camera that is refused is told", async () => {
  const { page, close } = await open([]);
  await page.getByRole("button", { name: "Camera", exact: true }).click();
  await page.getByRole("alert").getByText(/refused|there is no camera/).waitFor();
  assert.equal(await page.getByLabel("What the camera sees").isVisible(), false);
  await close();
});
