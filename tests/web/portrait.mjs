/**
 * The picture and the short film of the demo page that stand in the README, made from the real page
 * with the model that ships.
 *
 *     npm run portrait --workspace univi-tests-web
 */
import { execFile } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { ask, beGreedy, openDemo } from "./demo.mjs";
import { OUTPUT } from "./fixtures.mjs";

const run = promisify(execFile);
const INTO = fileURLToPath(new URL("../../www/portrait/", import.meta.url));
const FRAMES = join(OUTPUT, "portrait");
const SIZE = { width: 1180, height: 860 };
/** Frames of the film per second, and how much smaller it is. */
const RATE = 8;
const FILM_WIDTH = 780;

await rm(FRAMES, { recursive: true, force: true });
await mkdir(FRAMES, { recursive: true });
await mkdir(INTO, { recursive: true });

const { page, close } = await openDemo({ context: { viewport: SIZE } });
await beGreedy(page);
let frames = 0;
let filming = true;
const film = (async () => {
  while (filming) {
    const began = performance.now();
    const picture = await page.screenshot();
    await writeFile(join(FRAMES, `${String(frames++).padStart(4, "0")}.png`), picture);
    await new Promise((resolve) =>
      setTimeout(resolve, Math.max(0, 1000 / RATE - (performance.now() - began))),
    );
  }
})();
const pause = (/** @type {number} */ ms) => page.waitForTimeout(ms);

await pause(700);
await page.getByRole("button", { name: "A train and a zebra" }).click();
await pause(700);
await ask(page, "What is there from left to right?");
await pause(900);
for (const stage of [1, 2]) {
  await page.getByLabel("Stage of merging").press("ArrowRight");
  await pause(stage === 2 ? 900 : 700);
}
const canvas = page.locator("univi-tokens canvas");
const box = await canvas.boundingBox();
if (box) {
  for (const [x, y] of [
    [0.2, 0.3],
    [0.35, 0.55],
    [0.7, 0.3],
    [0.8, 0.4],
  ]) {
    await page.mouse.move(box.x + (x ?? 0) * box.width, box.y + (y ?? 0) * box.height);
    await pause(500);
  }
}
await ask(page, "Where is the zebra? Answer in a sentence.");
await pause(900);
await page.getByRole("button", { name: "New conversation" }).click();
await page.getByRole("button", { name: "A clip: a unicorn" }).click();
await pause(500);
await ask(page, "What appears last?");
await page.getByRole("heading", { name: "Event 1" }).waitFor();
await pause(700);
const timeline = page.locator("univi-events button");
for (const frame of [2, 4, 6]) {
  await timeline.nth(Math.min(frame, (await timeline.count()) - 1)).click();
  await pause(500);
}
await pause(900);
filming = false;
await film;

await page.screenshot({ path: join(FRAMES, "last.png") });
await close();
await run("ffmpeg", [
  "-y",
  "-loglevel",
  "error",
  "-i",
  join(FRAMES, "last.png"),
  "-quality",
  "85",
  join(INTO, "page.webp"),
]);
const scaled = [
  "-vf",
  `scale=${FILM_WIDTH}:-1:flags=lanczos`,
  "-loop",
  "0",
  "-quality",
  "60",
  "-compression_level",
  "6",
];
await run("ffmpeg", [
  "-y",
  "-loglevel",
  "error",
  "-framerate",
  String(RATE),
  "-i",
  join(FRAMES, "%04d.png"),
  ...scaled,
  join(INTO, "film.webp"),
]);
console.log(`${frames} frames: page.webp and film.webp are in www/portrait`);
