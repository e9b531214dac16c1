/**
 * The page as a person uses it: load a model, show it a picture and a clip, ask, read; and what it
 * looks like.
 */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { AS_SHIPPED } from "./chromium.mjs";
import { ask as askThePage, beGreedy, inDrawer, load, openDemo, screenshot } from "./demo.mjs";
import { ask, clipOf, FIXTURES, OUTPUT, referenceAnswer, tinyModel } from "./fixtures.mjs";

const MODEL = await tinyModel();
const picture = await referenceAnswer("image_qa");
const clip = await referenceAnswer("video_qa");
const FRAMES = join(FIXTURES, clip.files[0] ?? "", "..");
const CLIP = join(OUTPUT, await clipOf(clip.files, "e2e.webm"));

/** @type {Awaited<ReturnType<typeof openDemo>>} */
let opened;
/** @type {string[]} */
const requests = [];
before(async () => {
  const tiny = {
    name: "Chat-UniVi, tiny",
    url: `output/${MODEL}/manifest.json`,
    note: "Small random weights.",
    bytes: 1e6,
  };
  opened = await openDemo({
    offers: [tiny],
    folders: { "/output/": join(OUTPUT, "/") },
    flags: AS_SHIPPED,
  });
  opened.page.context().on("request", (request) => requests.push(request.url()));
});
after(() => opened.close());

test("nothing is fetched that nobody asked for", async () => {
  const { page, url } = opened;
  await page.reload();
  await page.getByRole("button", { name: "Ask", exact: true }).waitFor();
  await page.waitForLoadState("networkidle");
  const weights = requests.filter(
    (request) => request.includes(".gguf") || request.includes("manifest.json"),
  );
  assert.deepEqual(weights, []);
  assert.deepEqual(
    requests.filter((request) => !request.startsWith(url)),
    [],
  );
  assert.ok(requests.length > 0);
  await screenshot(page, "first-view");
});

test("a picture is answered as by the reference", async () => {
  const { page } = opened;
  await beGreedy(page, "webgpu");
  await inDrawer(page, () => page.getByLabel("Longest answer").fill(String(picture.tokens)));
  assert.equal(
    await askThePage(page, picture.question, ...picture.files.map((file) => join(FIXTURES, file))),
    picture.answer,
  );
  assert.match((await page.locator(".metrics").first().textContent()) ?? "", /112 visual/);
  assert.match((await page.locator("#device").textContent()) ?? "", /^WebGPU: ./);
  await page.getByText("256 patches became 64 tokens. The dimmed").waitFor();
  await page.getByLabel("Stage of merging").press("ArrowRight");
  await page.getByText("256 patches became 32 tokens. The dimmed").waitFor();
  await screenshot(page, "picture");
});

test("a clip is answered as by the command line", async () => {
  const { page } = opened;
  await page.getByRole("button", { name: "New conversation" }).click();
  const limits = ["--greedy", "--max-tokens", String(picture.tokens)];
  const expected = await ask(
    "-m",
    join(OUTPUT, MODEL),
    "--device",
    "cpu",
    ...limits,
    "--video",
    FRAMES,
    clip.question,
  );
  assert.equal(await askThePage(page, clip.question, CLIP), expected);
  await page.getByRole("heading", { name: "Event 1" }).waitFor();
  await page.getByRole("button", { name: "Frame at 0:03" }).first().click();
  await screenshot(page, "clip");
  await page.emulateMedia({ colorScheme: "dark" });
  await screenshot(page, "clip-dark");
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 390, height: 844 });
  await screenshot(page, "clip-phone");
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `the page is ${overflow} px wider than a phone`);
  await page.setViewportSize({ width: 1280, height: 720 });
});

test("a file that is no picture leaves question and page usable", async () => {
  const { page } = opened;
  const words = join(OUTPUT, "words.png");
  await writeFile(words, "just some words");
  await page.setInputFiles("#attach", words);
  await page.getByLabel("Your question").fill("What is this?");
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  const alert = page.locator("#ask-alert");
  await alert.waitFor();
  assert.equal(await alert.getAttribute("data-code"), "bad-image");
  assert.match((await alert.textContent()) ?? "", /words\.png/);
  assert.equal(await page.getByLabel("Your question").inputValue(), "What is this?");
  await screenshot(page, "bad-picture");
  await page.getByRole("button", { name: "Remove words.png" }).click();
  assert.notEqual(await askThePage(page, "Are you there?"), "");
});

test("an answer can be stopped", async () => {
  const { page } = opened;
  await inDrawer(page, () => page.getByLabel("Longest answer").fill("1000"));
  await page.getByLabel("Your question").fill("Tell me everything.");
  await page.keyboard.press("Enter");
  const turn = page.locator(".turn").last();
  await turn.locator(".answer:not(:empty)").waitFor();
  await page.keyboard.press("Escape");
  await turn.getByText("Stopped.").waitFor();
  await page.getByRole("button", { name: "Ask", exact: true }).waitFor();
});

test("a site without the model says so", async () => {
  const { page } = opened;
  await load(page, undefined, async () => {
    await page.locator("#model-choice").selectOption("url");
    await page.locator("#model-url").fill("output/absent/manifest.json");
  });
  const alert = page.locator("#model-alert");
  await alert.waitFor();
  assert.equal(await alert.getAttribute("data-code"), "io");
  await screenshot(page, "no-model");
});
