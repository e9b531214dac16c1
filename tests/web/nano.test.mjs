/**
 * The model that comes with the page, in the page: samples, answers, and that nothing else is
 * needed.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { ask, beGreedy, openDemo, screenshot } from "./demo.mjs";

/** @type {Awaited<ReturnType<typeof openDemo>>} */
let opened;
/** @type {string[]} */
const requests = [];
before(async () => {
  opened = await openDemo();
  opened.page.context().on("request", (request) => requests.push(request.url()));
});
after(() => opened.close());

/** What the samples show, and what is asked about them here. */
const ASKED = JSON.parse(await readFile(new URL("./nano-samples.json", import.meta.url), "utf8"));

test("samples are answered right, without anything that was not asked for", async () => {
  const { page, url } = opened;
  await beGreedy(page, "webgpu");
  for (const { file, alt, questions } of ASKED) {
    for (const [question, answer] of questions) {
      await page.getByRole("button", { name: "New conversation" }).click();
      await page.getByRole("button", { name: alt, exact: true }).click();
      await page
        .getByLabel("Attached pictures and clips")
        .getByLabel(file, { exact: true })
        .waitFor();
      assert.equal(await ask(page, question), answer, `${file}: ${question}`);
    }
    await screenshot(page, `nano-${file.replace(/\..*/, "")}`);
  }
  assert.deepEqual(
    requests.filter((request) => !request.startsWith(url) && !request.startsWith("blob:")),
    [],
  );
});

test("the page begins with samples that say what they show", async () => {
  const { page } = opened;
  await page.getByRole("button", { name: "New conversation" }).click();
  const samples = page.locator("#samples img");
  assert.equal(await samples.count(), ASKED.length);
  for (const alt of await samples.evaluateAll((images) =>
    images.map((image) => /** @type {HTMLImageElement} */ (image).alt),
  ))
    assert.notEqual(alt, "");
});
