/**
 * Live captions on the page, over a camera that shows a film, and the screen as another source:
 * what is asked, what is not, what is kept, and how it is stopped.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { AXE, assertAccessible } from "./axe.mjs";
import { CAMERA } from "./chromium.mjs";
import { ask, beGreedy, openDemo, screenshot, showing, speak } from "./demo.mjs";

/** @typedef {import("playwright-core").Page} Page */

const QUESTION = "List everything from left to right.";

/** Has seconds of the page pass four times as fast. */
function hurry() {
  const [clock, every] = [performance.now.bind(performance), setInterval];
  performance.now = () => clock() * 4;
  const often = (/** @type {() => void} */ act, /** @type {number} */ ms) => every(act, ms / 4);
  Object.assign(globalThis, { setInterval: often });
}

/**
 * Opens the page with a camera that is on.
 *
 * @param {import("node:test").TestContext} t
 * @param {Parameters<typeof openDemo>[0]} options
 */
async function openCamera(t, options) {
  const { page, close } = await openDemo(options);
  t.after(close);
  await page.addInitScript(hurry);
  await page.reload();
  await beGreedy(page);
  await page.locator("#camera-open").click();
  await page.locator("#camera-view").waitFor();
  return page;
}

/**
 * Ends what is watched, as unplugging the camera and the browser's own button to share no more do.
 *
 * @param {Page} page
 */
const endSource = (page) =>
  page.locator("#camera-view").evaluate((video) => {
    const stream = /** @type {MediaStream} */ (/** @type {HTMLVideoElement} */ (video).srcObject);
    for (const track of stream.getTracks()) {
      track.stop();
      track.dispatchEvent(new Event("ended"));
    }
  });

const captionsOf = (/** @type {Page} */ page) =>
  page.locator(".caption-list li p:last-child").allTextContents();

/**
 * Counts that the page shows.
 *
 * @param {Page} page
 */
async function figures(page) {
  const text = (await page.locator(".caption-state").textContent()) ?? "";
  const [answers, encoded] = [/(\d+) answer/, /(\d+) frames? encoded/].map((count) =>
    Number(count.exec(text)?.[1] ?? 0),
  );
  return { answers: answers ?? 0, encoded: encoded ?? 0 };
}

/**
 * Waits until so many more frames are encoded.
 *
 * @param {Page} page
 * @param {number} more
 */
async function framesLater(page, more) {
  const { encoded } = await figures(page);
  await page.waitForFunction(
    (least) =>
      Number(/(\d+) frames? encoded/.exec(document.body.textContent ?? "")?.[1] ?? 0) >= least,
    encoded + more,
  );
}

/**
 * Saves a file of the captions -> its text.
 *
 * @param {Page} page
 * @param {string} button
 */
async function saved(page, button) {
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: button, exact: true }).click(),
  ]);
  return readFile(await download.path(), "utf8");
}

/**
 * Parses WebVTT as the browser does -> its cues.
 *
 * @param {Page} page
 * @param {string} text
 */
const cuesOf = (page, text) =>
  page.evaluate(async (text) => {
    const video = document.createElement("video");
    const track = document.createElement("track");
    video.append(track);
    track.track.mode = "hidden";
    await new Promise((resolve, reject) => {
      track.addEventListener("load", resolve);
      track.addEventListener("error", () => reject(new Error("not WebVTT")));
      track.src = URL.createObjectURL(new Blob([text], { type: "text/vtt" }));
    });
    return [...(track.track.cues ?? [])].map((cue) => ({
      from: cue.startTime,
      to: cue.endTime,
      text: /** @type {VTTCue} */ (cue).text,
    }));
  }, text);

test("a still scene has one caption, and is asked about no more", async (t) => {
  const flags = await showing("still", ["penguin-cookie"], 2);
  const page = await openCamera(t, { flags, context: { bypassCSP: true } });
  assert.notEqual(await page.getByLabel("Question", { exact: true }).inputValue(), "");
  await page.getByLabel("Question", { exact: true }).fill(QUESTION);
  await page.keyboard.press("Enter");
  await page.getByText("Nothing has moved: not asked again.").waitFor();
  const { answers } = await figures(page);
  assert.ok(answers > 0);
  await framesLater(page, 3);
  assert.equal((await figures(page)).answers, answers);
  assert.deepEqual(await captionsOf(page), ["penguin and cookie"]);
  assert.equal(await page.locator("#announce").textContent(), "Caption: penguin and cookie");
  await page.getByText("While captions run, all questions are about the last 5 s.").waitFor();

  // Another question is another matter.
  await page.getByLabel("Question", { exact: true }).fill("Can you see a whale at any time?");
  await page.locator(".caption-list").getByText("no", { exact: true }).waitFor();

  const cues = await cuesOf(page, await saved(page, "WebVTT"));
  assert.deepEqual(
    cues.map(({ text }) => text),
    ["penguin and cookie", "no"],
  );
  assert.equal(cues[0]?.from, 0);
  assert.equal(cues[0]?.to, cues[1]?.from);
  for (const { from, to } of cues) assert.ok(to > from);
  const lines = (await saved(page, "Text")).trimEnd().split("\n");
  const times = String.raw`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - \d{4}-\d\d-\d\d \d\d:\d\d:\d\d {2}`;
  assert.match(lines[0] ?? "", new RegExp(`^${times}penguin and cookie$`));
  assert.match(lines[1] ?? "", new RegExp(`^${times}no$`));
  assert.equal(lines.length, 2);

  // A person's question goes first, and captions go on.
  assert.equal(await ask(page, "Can you see a penguin at any time?"), "yes");
  await page.getByText("Nothing has moved: not asked again.").waitFor();
  assert.deepEqual(await captionsOf(page), ["no", "penguin and cookie"]);

  await page.addScriptTag({ path: AXE });
  for (const [width, height, colorScheme] of /** @type {const} */ ([
    [1280, 720, "light"],
    [390, 844, "dark"],
  ])) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme });
    await assertAccessible(page, `captions, ${width} px, ${colorScheme}`);
    await screenshot(page, `captions-${width}`);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `the page is ${overflow} px wider than ${width} px`);
  }
  for (const language of /** @type {const} */ (["ja", "zh"])) {
    await speak(page, language);
    const said = await page
      .locator("#camera")
      .locator(".caption-form option, button, label > span, .camera-side p, .caption-state span")
      .allTextContents();
    assert.ok(said.length > 10);
    for (const text of said) assert.doesNotMatch(text.replace("WebVTT", ""), /[A-Za-z]{2}/, text);
    await screenshot(page, `captions-${language}`);
  }
  await speak(page, "en");

  // The list goes with a press, and comes back with another.
  await page.getByRole("button", { name: "Clear", exact: true }).click();
  assert.deepEqual(await captionsOf(page), []);
  await page.getByRole("button", { name: "Undo" }).click();
  // What the scene is now was asked anew, and stands before.
  await page.waitForFunction(() => document.querySelectorAll(".caption-list li").length === 3);
  assert.deepEqual(await captionsOf(page), ["no", "no", "penguin and cookie"]);
});

test("captions pause, stop at once, and leave nothing behind", async (t) => {
  const flags = await showing("changing", ["penguin-cookie", "train-zebra", "trophies-bee"], 0.5);
  const page = await openCamera(t, { flags });
  const session = await page.context().newCDPSession(page);
  await page.getByText("Numbers", { exact: true }).click();
  const memoryAfter = async (/** @type {number} */ captions) => {
    await page.waitForFunction((least) => {
      const earlier = document.querySelector("#caption-earlier:not([hidden])")?.textContent ?? "0";
      const shown = document.querySelectorAll(".caption-list li").length;
      return shown + Number.parseInt(earlier, 10) >= least;
    }, captions);
    // Captions make way for a question, after which the module's memory is shown.
    await ask(page, "Can you see a penguin at any time?");
    await session.send("HeapProfiler.collectGarbage");
    const { usedSize: heap } = await session.send("Runtime.getHeapUsage");
    const module = page.locator("#metrics dt:text('Memory of the module') + dd");
    const shown = await page.locator(".caption-list li").count();
    return { heap, module: Number.parseFloat((await module.textContent()) ?? ""), shown };
  };
  await page.getByLabel("Question", { exact: true }).fill(QUESTION);
  await page.keyboard.press("Enter");
  const before = await memoryAfter(20);
  const after = await memoryAfter(60);
  t.diagnostic(JSON.stringify({ before, after }));
  assert.equal(after.shown, 50, "the list has the newest");
  assert.ok(after.heap - before.heap < 2 ** 21, "the page's heap grows");
  assert.ok(after.module - before.module < 4, "the module's memory grows");

  const hide = (/** @type {boolean} */ hidden) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  await hide(true);
  await page.getByText("Paused while this tab is hidden.").waitFor();
  const paused = await figures(page);
  await framesLater(page, 2);
  assert.equal((await figures(page)).answers, paused.answers);
  await hide(false);
  await page.waitForFunction(
    (before) => Number(/(\d+) answers?,/.exec(document.body.textContent ?? "")?.[1] ?? 0) > before,
    paused.answers,
  );

  // While an answer is on its way.
  const stopped = await page.evaluate(async () => {
    const state = /** @type {Element} */ (document.querySelector(".caption-state"));
    const toggle = /** @type {HTMLElement} */ (document.querySelector(".caption-form button"));
    await new Promise((resolve) => {
      const answers = () => state.textContent?.startsWith("Answering.") && resolve(undefined);
      new MutationObserver(answers).observe(state, { subtree: true, childList: true });
    });
    toggle.click();
    return {
      toggle: toggle.textContent,
      state: state.textContent,
      coming: document.querySelector(".caption-coming")?.textContent,
    };
  });
  assert.equal(stopped.toggle, "Start captions");
  assert.match(stopped.state ?? "", /^Stopped\./);
  assert.equal(stopped.coming, "");
  const { answers } = await figures(page);
  await page.getByText(/Watching: [2-9] frames/).waitFor();
  await page.getByText("Questions are about what was seen in the last minute.").waitFor();
  assert.equal((await figures(page)).answers, answers);

  await page.getByRole("button", { name: "Start captions" }).click();
  await page.getByRole("button", { name: "Stop captions" }).waitFor();
  await page.getByLabel("Your question").press("Escape");
  await page.getByRole("button", { name: "Start captions" }).waitFor();
});

test("a screen is watched in place of the camera; what goes away says what to do", async (t) => {
  const page = await openCamera(t, { flags: CAMERA });
  await page.locator("#screen-open").click();
  await page.getByLabel("The screen or window that is shared").waitFor();
  await page.getByText("The model sees the square in the middle.").waitFor();
  assert.equal(await page.locator("#screen-open").isEnabled(), false);
  assert.equal(await page.locator("#camera-open").isEnabled(), true);
  await page.getByRole("button", { name: "Start captions" }).click();
  await page.locator(".caption-list li").first().waitFor();
  await screenshot(page, "captions-screen");
  await endSource(page);
  const alert = page.getByRole("alert");
  await alert.getByText("The screen is no longer shared. Press Screen").waitFor();
  await page.locator("#camera-view").waitFor({ state: "hidden" });
  await page.locator("#camera-open").click();
  await page.getByLabel("What the camera sees").waitFor();
  assert.equal((await captionsOf(page)).length > 0, true, "captions outlive what they are about");
  await endSource(page);
  await alert.getByText(/camera went away: .* press Camera again/).waitFor();
  assert.equal(await page.locator("#camera-open").isEnabled(), true);
  assert.equal(await page.locator("#screen-open").isEnabled(), true);
});
