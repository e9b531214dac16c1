/** The model that comes with the page, in the page: samples, answers, and that nothing else is needed. */
import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openPage } from "./chromium.mjs";
import { MODELS, OUTPUT } from "./fixtures.mjs";

const DIST = fileURLToPath(new URL("../../www/dist/", import.meta.url));
const SCREENSHOTS = join(OUTPUT, "screenshots");

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
/** @type {string[]} */
const requests = [];
before(async () => {
  await mkdir(SCREENSHOTS, { recursive: true });
  const offers = [{ name: "UniVi nano", url: "nano/manifest.json" }];
  await mkdir(join(OUTPUT, "nano-index"), { recursive: true });
  await writeFile(join(OUTPUT, "nano-index/index.json"), JSON.stringify(offers));
  const folders = { "/": DIST, "/models/": join(OUTPUT, "nano-index/"), "/nano/": join(MODELS, "univi-nano/") };
  opened = await openPage({ folders, path: "" });
  opened.page.setDefaultTimeout(180_000); // Shaders on one core take their time.
  opened.page.context().on("request", (request) => requests.push(request.url()));
});
after(() => opened.close());

/** What the samples show, and what is asked about them here. */
const ASKED = JSON.parse(await readFile(new URL("./nano-samples.json", import.meta.url), "utf8"));

/**
 * Asks about what is attached -> the answer.
 *
 * @param {string} question
 */
async function ask(question) {
  const { page } = opened;
  const turns = await page.locator(".turn").count();
  await page.getByLabel("Your question").fill(question);
  await page.keyboard.press("Enter");
  const answer = page.locator(".answer").nth(turns);
  await page.locator(".turn").nth(turns).locator('.answer[aria-busy="false"]').waitFor();
  return answer.textContent();
}

test("samples are answered right, without anything that was not asked for", async () => {
  const { page, url } = opened;
  await page.getByText("Settings").click();
  await page.getByLabel("Temperature").fill("0");
  for (const { file, alt, questions } of ASKED) {
    for (const [question, answer] of questions) {
      const restart = page.getByRole("button", { name: "Start over" });
      if (await restart.isEnabled()) await restart.click();
      await page.getByRole("button", { name: alt, exact: true }).click();
      await page.getByLabel("Attached pictures and clips").getByLabel(file, { exact: true }).waitFor();
      assert.equal(await ask(question), answer, `${file}: ${question}`);
    }
    await page.screenshot({ path: join(SCREENSHOTS, `nano-${file.replace(/\..*/, "")}.png`), fullPage: true });
  }
  assert.deepEqual(requests.filter((request) => !request.startsWith(url) && !request.startsWith("blob:")), []);
});

test("the page begins with samples that say what they show", async () => {
  const { page } = opened;
  await page.getByRole("button", { name: "Start over" }).click();
  const samples = page.locator("#samples img");
  assert.equal(await samples.count(), ASKED.length);
  for (const alt of await samples.evaluateAll((images) => images.map((image) => /** @type {HTMLImageElement} */ (image).alt))) assert.notEqual(alt, "");
  await page.screenshot({ path: join(SCREENSHOTS, "nano-first-view.png"), fullPage: true });
});
