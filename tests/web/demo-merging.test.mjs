/** Token maps on the demo page as something to play with: merged anew, and taken away. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { assertAccessible, AXE } from "./axe.mjs";
import { ask, beGreedy, openDemo, SAMPLES } from "./demo.mjs";

/** @type {Awaited<ReturnType<typeof openDemo>>} */
let opened;
before(async () => {
  opened = await openDemo({ context: { bypassCSP: true } });
  await beGreedy(opened.page);
});
after(() => opened.close());

const status = () => opened.page.locator(".merging-status");
const stage = () => opened.page.locator(".token-map-controls output");
/** Moves the slider, as a hand does that does not wait. @param {number[]} places */
const move = (...places) =>
  opened.page.locator(".merging input").evaluate((slider, places) => {
    for (const to of places) {
      Object.assign(slider, { value: String(to) });
      slider.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }, places);

test("a picture is merged to more and fewer tokens, and back to what was asked", async () => {
  const { page } = opened;
  await ask(page, "Where is the zebra?", join(SAMPLES, "train-zebra.png"));
  await stage().getByText("64 patches became 24 tokens").waitFor();
  await move(3, 90, 112, 21);
  await status().getByText("21 tokens instead of 42; ").waitFor();
  assert.equal(await stage().textContent(), "Stage 1: 64 patches became 12 tokens");
  await page.locator(".budget .count").getByText("21 tokens").waitFor();
  await page.addScriptTag({ path: AXE });
  await assertAccessible(page, "a token map was merged anew");
  const slider = page.locator(".merging input");
  await slider.press("End");
  await status().getByText("112 tokens instead of 42; ").waitFor();
  assert.equal(await stage().textContent(), "Stage 1: 64 patches became 64 tokens");
  await page.getByRole("button", { name: "As it was asked" }).click();
  assert.equal(await stage().textContent(), "Stage 1: 64 patches became 24 tokens");
  assert.equal(await slider.inputValue(), "42");
});

test("what is drawn is taken away as PNG and SVG", async () => {
  const { page } = opened;
  const file = async (/** @type {string} */ format) => {
    const button = page.getByRole("button", { name: `Download what is drawn as ${format}` });
    const [download] = await Promise.all([page.waitForEvent("download"), button.click()]);
    assert.equal(download.suggestedFilename(), `train-zebra-tokens.${format.toLowerCase()}`);
    return readFile(await download.path());
  };
  assert.equal((await file("PNG")).toString("latin1", 1, 4), "PNG");
  const svg = (await file("SVG")).toString();
  const [shapes, patches, image, errors] = await page.evaluate((svg) => {
    const drawn = new DOMParser().parseFromString(svg, "image/svg+xml");
    const titles = [...drawn.querySelectorAll("title")].map((title) => title.textContent ?? "");
    const counts = titles.map((title) => Number(/for (\d+) patch/.exec(title)?.[1]));
    const image = drawn.querySelector("image")?.getAttribute("href") ?? "";
    const errors = drawn.querySelectorAll("parsererror").length;
    return [titles.length, counts.reduce((sum, n) => sum + n, 0), image.slice(0, 15), errors];
  }, svg);
  assert.deepEqual([shapes, patches, image, errors], [24, 64, "data:image/png;", 0]);
});

test("the events of a clip are merged anew where they stand", async () => {
  const { page } = opened;
  await ask(page, "What appears last?", join(SAMPLES, "unicorn-cake-owl.webm"));
  const events = page.locator(".event p");
  await events.nth(3).waitFor();
  await page.locator(".event-heading").nth(1).click();
  await move(12);
  await status().getByText("48 tokens instead of 168; ").waitFor();
  for (const text of await events.allTextContents()) assert.match(text, /into 12 tokens$/);
  assert.equal(await page.locator(".event.current").count(), 1);
  // Another turn is looked at while it merges: what comes then is of no use.
  await move(20);
  await page.locator(".turn-attachments button").first().click();
  await stage().getByText("64 patches became 24 tokens").waitFor();
  await page.waitForTimeout(2000);
  assert.equal(await stage().textContent(), "Stage 1: 64 patches became 24 tokens");
});
