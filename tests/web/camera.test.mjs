/** The page's camera: what it saw is answered right, and a camera that can't be had is told. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { CAMERA } from "./chromium.mjs";
import { ask, beGreedy, openDemo, SAMPLES, screenshot } from "./demo.mjs";
import { OUTPUT } from "./fixtures.mjs";

test("what the camera saw is answered right, and shown", async (t) => {
  // The camera is pointed at a sample.
  const film = join(OUTPUT, "camera.y4m");
  const scale = "scale=320:320,pad=428:320:54:0:red";
  await promisify(execFile)("ffmpeg", [
    "-y",
    "-loglevel",
    "error",
    "-loop",
    "1",
    "-i",
    join(SAMPLES, "penguin-cookie.png"),
    "-t",
    "2",
    "-r",
    "10",
    "-vf",
    scale,
    "-pix_fmt",
    "yuv420p",
    film,
  ]);
  const { page, close } = await openDemo({
    flags: [...CAMERA, `--use-file-for-fake-video-capture=${film}`],
  });
  t.after(close);
  await beGreedy(page);
  await page.getByRole("button", { name: "Camera", exact: true }).click();
  await page.getByLabel("What the camera sees").waitFor();
  // The model is loaded with the first question, and looks then.
  assert.equal(await ask(page, "Can you see a penguin at any time?"), "yes");
  await page.getByText(/Watching: [2-9] frames of the last \d+ s/).waitFor();
  assert.equal(await ask(page, "Can you see a whale at any time?"), "no");
  await page.getByRole("heading", { name: /^Event 1: 0:0/ }).waitFor();
  assert.ok((await page.locator("univi-events button").count()) >= 2);
  await screenshot(page, "camera");

  // What a question would be about is shown as it changes.
  await page.getByText("As the model would read it now").waitFor();
  const frames = page.locator("univi-events button");
  const before = await frames.count();
  await page.waitForFunction(
    (before) =>
      (document.querySelector("univi-events")?.shadowRoot?.querySelectorAll("button").length ?? 0) >
      before,
    before,
  );
  await screenshot(page, "camera-rolling");

  await page.getByRole("button", { name: "Turn off" }).click();
  await page.getByLabel("What the camera sees").waitFor({ state: "hidden" });
  await page.getByRole("button", { name: "Camera", exact: true }).waitFor();
});

test("another camera is chosen", async (t) => {
  const flags = CAMERA.map((flag) =>
    flag === "--use-fake-device-for-media-stream" ? `${flag}=device-count=2` : flag,
  );
  const { page, close } = await openDemo({ flags });
  t.after(close);
  await page.getByRole("button", { name: "Camera", exact: true }).click();
  const choice = page.getByLabel("Which camera");
  await choice.waitFor();
  const current = () =>
    page.locator("#camera-view").evaluate((video) => {
      const stream = /** @type {MediaStream} */ (/** @type {HTMLVideoElement} */ (video).srcObject);
      return stream.getVideoTracks()[0]?.getSettings().deviceId;
    });
  const values = await choice
    .locator("option")
    .evaluateAll((options) =>
      options.map((option) => /** @type {HTMLOptionElement} */ (option).value),
    );
  assert.equal(values.length, 2);
  const before = await current();
  const other = values.find((value) => value !== before) ?? "";
  await choice.selectOption(other);
  await page.waitForFunction((other) => {
    const video = /** @type {HTMLVideoElement | null} */ (document.querySelector("#camera-view"));
    const stream = /** @type {MediaStream | null} */ (video?.srcObject ?? null);
    return stream?.getVideoTracks()[0]?.getSettings().deviceId === other;
  }, other);
  assert.equal(await choice.inputValue(), other);
});

test("a camera or a screen that is refused is told", async (t) => {
  const { page, close } = await openDemo({
    flags: ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream=deny"],
  });
  t.after(close);
  const alert = page.getByRole("alert");
  await page.getByRole("button", { name: "Camera", exact: true }).click();
  await alert.getByText(/was refused\. .* press Camera again/).waitFor();
  assert.equal(await page.getByLabel("What the camera sees").isVisible(), false);
  await page.getByRole("button", { name: "Screen", exact: true }).click();
  await alert.getByText(/^No screen was shared\. Press Screen/).waitFor();
  assert.equal(await page.getByRole("button", { name: "Camera", exact: true }).isEnabled(), true);
});

test("a computer without a camera says so", async (t) => {
  const { page, close } = await openDemo({
    flags: ["--use-fake-device-for-media-stream=device-count=0", "--use-fake-ui-for-media-stream"],
  });
  t.after(close);
  await page.getByRole("button", { name: "Camera", exact: true }).click();
  await page
    .getByRole("alert")
    .getByText(/^There is no camera\. A clip/)
    .waitFor();
});
