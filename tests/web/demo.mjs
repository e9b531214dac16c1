/** The demo page, as tests and scripts open it, and what a person does there. */
import { execFile } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { CAMERA, openPage } from "./chromium.mjs";
import { MODELS, OUTPUT } from "./fixtures.mjs";

/** The built page. */
export const DIST = fileURLToPath(new URL("../../www/dist/", import.meta.url));
/** The samples that come with it. */
export const SAMPLES = fileURLToPath(new URL("../../www/public/samples/", import.meta.url));
/** Pictures of the page, for people to look at. */
export const SCREENSHOTS = join(OUTPUT, "screenshots");
await mkdir(SCREENSHOTS, { recursive: true });

/** The model that comes with the page, as a site offers it. */
export const NANO = { name: "UniVi nano", url: "nano/manifest.json", bytes: 4_000_000 };

/** @typedef {import("playwright-core").Page} Page */

/**
 * Opens the page on a site that offers these models.
 *
 * @param {object} [options]
 * @param {readonly object[]} [options.offers] What `models/index.json` lists.
 * @param {Record<string, string>} [options.folders] Further folders that the site serves.
 * @param {string} [options.path] What stands behind the page's address.
 * @param {string} [options.at] The folder of the site that the page lies in.
 * @param {string[]} [options.flags] Further ones for Chromium.
 * @param {boolean} [options.webgpu] Whether there is a GPU.
 * @param {string[]} [options.serveFlags] Further ones for the server.
 * @param {import("playwright-core").BrowserContextOptions} [options.context]
 */
export async function openDemo({
  offers = [NANO],
  folders = {},
  path = "",
  at = "/",
  ...options
} = {}) {
  const opened = await openPage({
    ...options,
    folders: await demoFolders({ offers, folders, at }),
    path: `${at.slice(1)}${path}`,
  });
  opened.page.setDefaultTimeout(90_000); // Shaders on one core take their time.
  return opened;
}

/**
 * Returns the folders of a site that offers these models, for `serve`.
 *
 * @param {Pick<NonNullable<Parameters<typeof openDemo>[0]>, "offers" | "folders" | "at">} [options]
 * @returns {Promise<Record<string, string>>}
 */
export async function demoFolders({ offers = [NANO], folders = {}, at = "/" } = {}) {
  const index = join(OUTPUT, `offers-${offersOpened++}-${process.pid}`);
  await mkdir(index, { recursive: true });
  await writeFile(join(index, "index.json"), JSON.stringify(offers));
  const root = at === "/" ? { "/": DIST } : { "/": join(index, "/"), [at]: DIST };
  return {
    ...root,
    [`${at}models/`]: join(index, "/"),
    [`${at}nano/`]: join(MODELS, "univi-nano/"),
    ...folders,
  };
}
let offersOpened = 0;

/**
 * Does something in the drawer with models and settings, and closes it again.
 *
 * @param {Page} page
 * @param {() => Promise<unknown>} act
 */
export async function inDrawer(page, act) {
  await page.locator("#open-settings").click();
  await act();
  // Loading, and what goes wrong, close it themselves.
  if (await page.locator("#drawer").isVisible()) await page.locator("#close-drawer").click();
  await page.locator("#drawer").waitFor({ state: "hidden" });
}

/**
 * Loads what is chosen, on this device.
 *
 * @param {Page} page
 * @param {"webgpu" | "cpu" | "auto"} [device]
 * @param {() => Promise<unknown>} [choose] What is done before in the drawer.
 */
export const load = (page, device, choose) =>
  inDrawer(page, async () => {
    await choose?.();
    if (device) await page.locator("#model-device").selectOption(device);
    await page.locator("#model-load").click();
  });

/**
 * Makes answers repeat, on this device.
 *
 * @param {Page} page
 * @param {"webgpu" | "cpu" | "auto"} [device]
 */
export const beGreedy = (page, device = "cpu") =>
  inDrawer(page, async () => {
    await page.getByLabel("Runs on").selectOption(device);
    await page.getByLabel("Temperature").fill("0");
    await page.getByLabel("Temperature").blur();
  });

/**
 * Has the page speak this language.
 *
 * @param {Page} page
 * @param {"en" | "ja" | "zh"} language
 */
export const speak = (page, language) =>
  inDrawer(page, () => page.locator("#language").selectOption(language));

/**
 * Exports the conversation that is open -> the file's text.
 *
 * @param {Page} page
 * @param {"Markdown" | "JSON"} format
 */
export async function exported(page, format) {
  await page.getByRole("button", { name: "Conversations" }).click();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: format, exact: true }).click(),
  ]);
  await page.keyboard.press("Escape");
  return readFile(await download.path(), "utf8");
}

/**
 * Asks through the page's form, and waits until the answer is whole -> it.
 *
 * @param {Page} page
 * @param {string} question
 * @param {string[]} files
 */
export async function ask(page, question, ...files) {
  const turns = await page.locator(".turn").count();
  if (files.length > 0) await page.setInputFiles("#attach", files);
  await page.getByLabel("Your question").fill(question);
  await page.keyboard.press("Enter");
  return answerOf(page, turns);
}

/**
 * Waits until the answer of this turn is whole -> it.
 *
 * @param {Page} page
 * @param {number} turn
 */
export async function answerOf(page, turn) {
  await page.locator(".turn").nth(turn).locator('.answer[aria-busy="false"]').waitFor();
  // As the model wrote it, before it is drawn as Markdown.
  return (await page.locator(".answer").nth(turn).getAttribute("data-written")) ?? "";
}

/**
 * Whether an element lies in the window whole, and nothing over its middle.
 *
 * @param {Page} page
 * @param {string} selector
 */
export const isInSight = (page, selector) =>
  page.locator(selector).evaluate((element) => {
    const { left, right, top, bottom } = element.getBoundingClientRect();
    const over = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
    const inside = left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight;
    return inside && over !== null && (element.contains(over) || over.contains(element));
  });

/**
 * Takes a picture of the page.
 *
 * @param {Page} page
 * @param {string} name
 */
export const screenshot = (page, name) =>
  page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true });

/**
 * A camera that shows samples again and again, each for so long -> Chromium's flags.
 *
 * @param {string} name
 * @param {readonly string[]} samples
 * @param {number} seconds
 */
export async function showing(name, samples, seconds) {
  const film = join(OUTPUT, `${name}.y4m`);
  const shown = samples.flatMap((sample) => [
    ...["-loop", "1", "-t", String(seconds), "-r", "10"],
    ...["-i", join(SAMPLES, `${sample}.png`)],
  ]);
  const scaled = samples.map((_, i) => `[${i}]scale=320:320,pad=428:320:54:0:red[s${i}];`).join("");
  const joined = samples.map((_, i) => `[s${i}]`).join("");
  const filter = `${scaled}${joined}concat=n=${samples.length}`;
  const written = ["-filter_complex", filter, "-pix_fmt", "yuv420p", film];
  await promisify(execFile)("ffmpeg", ["-y", "-loglevel", "error", ...shown, ...written]);
  return [...CAMERA, `--use-file-for-fake-video-capture=${film}`];
}
