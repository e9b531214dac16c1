/** A part of a clip on the demo page: chosen before asking, with its cost, and kept. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { assertAccessible, AXE } from "./axe.mjs";
import { answerOf, beGreedy, openDemo, SAMPLES, screenshot, speak } from "./demo.mjs";
import { OUTPUT } from "./fixtures.mjs";

/** @type {Awaited<ReturnType<typeof openDemo>>} */
let opened;
before(async () => {
  opened = await openDemo({ context: { bypassCSP: true } });
  await beGreedy(opened.page);
});
after(() => opened.close());

const CLIP = join(SAMPLES, "unicorn-cake-owl.webm");
const cost = () => opened.page.locator(".trim-cost");
/** Moves a slider of the panel. @param {string} label @param {number} to */
const move = (label, to) =>
  opened.page.getByRole("slider", { name: label }).evaluate((slider, to) => {
    Object.assign(slider, { value: String(to) });
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  }, to);

test("what a part costs is said at once, and is what is encoded then", async () => {
  const { page } = opened;
  await page.setInputFiles("#attach", CLIP);
  await page.getByRole("button", { name: "Trim" }).click();
  await cost().getByText("known once the model is loaded").waitFor();
  await page.getByRole("button", { name: "Load the model" }).click();
  await cost().getByText("0:00 to 0:16: 16 frames, about 168 tokens.").waitFor();
  await move("Start", 2.5);
  await cost().getByText("0:02.5 to 0:16: 14 frames").waitFor();
  await move("End", 4.5);
  await page.getByLabel("Frames per second", { exact: true }).fill("2");
  await cost().getByText("0:02.5 to 0:04.5: 5 frames, about 168 tokens.").waitFor();
  await page.addScriptTag({ path: AXE });
  await assertAccessible(page, "a clip is trimmed");
  await screenshot(page, "trim");
  await page.getByRole("button", { name: "Done" }).click();
  assert.equal(await page.locator(".trim").count(), 0);
  const trim = page.getByRole("button", { name: "Trim" });
  assert.equal(await trim.evaluate((button) => button === document.activeElement), true);
  const turn = await page.locator(".turn").count();
  await page.getByLabel("Your question").fill("What appears?");
  await page.keyboard.press("Enter");
  await answerOf(page, turn);
  assert.match((await page.locator(".metrics").last().textContent()) ?? "", /\(168 visual\)/);
  const frames = page.locator("univi-events button");
  assert.deepEqual(
    await frames.evaluateAll((all) =>
      all.map((one) => /at (\S+),/.exec(one.getAttribute("title") ?? "")?.[1]),
    ),
    ["0:02.5", "0:03", "0:03.5", "0:04", "0:04.5"],
  );
});

test("the part is kept with its turn, and asked about again", async () => {
  const { page } = opened;
  await page.reload();
  await page.locator(".turn").waitFor();
  await page.getByRole("button", { name: "Edit this question" }).click();
  await page.getByRole("button", { name: "Trim" }).click();
  await page.getByRole("slider", { name: "Start" }).and(page.locator(":enabled")).waitFor();
  assert.equal(await page.getByRole("slider", { name: "Start" }).inputValue(), "2.5");
  assert.equal(await page.getByLabel("Frames per second", { exact: true }).inputValue(), "2");
  // What is chosen anew is not what was asked then, until it is asked.
  await page.getByRole("button", { name: "Whole clip" }).click();
  await page.keyboard.press("Escape");
  assert.equal(await page.locator(".trim").count(), 0);
  assert.equal(await page.locator(".editing").isVisible(), true, "Escape closed the panel alone");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Ask again: this question" }).click();
  await page.locator(".turn").getByText("2 of 2").waitFor();
  await answerOf(page, 0);
  assert.match((await page.locator(".metrics").last().textContent()) ?? "", /\(168 visual\)/);
});

test("sliders make way for each other, by keyboard, too; a wrong rate is said", async () => {
  const { page } = opened;
  await page.setInputFiles("#attach", CLIP);
  await page.getByRole("button", { name: "Trim" }).click();
  const start = page.getByRole("slider", { name: "Start" });
  await start.and(page.locator(":enabled")).waitFor();
  await start.press("End");
  await cost().getByText("0:15.9 to 0:16: 1 frame, about 42 tokens.").waitFor();
  await page.getByRole("slider", { name: "End" }).press("Home");
  await cost().getByText("0:00 to 0:00.1: 1 frame").waitFor();
  await page.getByLabel("Frames per second", { exact: true }).fill("-1");
  await cost().getByText("A number above 0").waitFor();
  // Pressed twice, it is closed; removed while it is open, it goes with the clip.
  for (const panels of [0, 1]) {
    await page.getByRole("button", { name: "Trim" }).press("Enter");
    await page.waitForFunction((n) => document.querySelectorAll(".trim").length === n, panels);
  }
  await page.getByRole("button", { name: "Remove unicorn-cake-owl.webm" }).click();
  assert.equal(await page.locator(".trim").count(), 0);
});

test("what is no clip says so, and a language that is chosen meanwhile is spoken", async () => {
  const { page } = opened;
  const broken = join(OUTPUT, "broken.webm");
  await writeFile(broken, "no clip at all");
  await page.setInputFiles("#attach", broken);
  await page.getByRole("button", { name: "Trim" }).click();
  await cost().getByText("can't be read here").waitFor();
  await speak(page, "ja");
  await page.getByRole("button", { name: "切り取り" }).click();
  await cost().getByText("切り取れません").waitFor();
  await speak(page, "en");
  await page.getByRole("button", { name: "Remove broken.webm" }).click();
  assert.equal(await page.locator(".attachment").count(), 0);
});
