/**
 * Live captions over a camera for as long as is asked, in real time: a scene that stays for half a
 * minute, then another one. Prints memory and captions each minute, then how soon they stop; exits
 * with 1 where memory grows after the first minute, a scene that stays has a caption twice, or one
 * has none.
 *
 *     npm run soak:captions --workspace univi-tests-web -- --minutes 10
 */
import { parseArgs } from "node:util";
import { beGreedy, openDemo, showing } from "./demo.mjs";

const { values } = parseArgs({ options: { minutes: { type: "string", default: "10" } } });
const minutes = Number(values.minutes);
const SCENES = ["penguin-cookie", "train-zebra"];
const SCENE_S = 30;
/** How much more there may be than after the first minute. */
const MARGIN_MB = 2;

const flags = await showing("scenes", SCENES, SCENE_S);
const { page, close } = await openDemo({ flags });
await beGreedy(page);
await page.locator("#camera-open").click();
await page.locator("#camera-view").waitFor();
const session = await page.context().newCDPSession(page);
await page.getByLabel("Question", { exact: true }).fill("List everything from left to right.");
await page.keyboard.press("Enter");

const heaps = [];
for (let minute = 1; minute <= minutes; minute++) {
  await page.waitForTimeout(60_000);
  await session.send("HeapProfiler.collectGarbage");
  const { usedSize } = await session.send("Runtime.getHeapUsage");
  heaps.push(usedSize / 1e6);
  const captions = await page.locator(".caption-list li").count();
  const state = await page.locator(".caption-state").textContent();
  console.log(
    `${minute} min: heap ${(usedSize / 1e6).toFixed(1)} MB, ${captions} captions. ${state}`,
  );
}
const stopped = await page.evaluate(() => {
  const began = performance.now();
  /** @type {HTMLElement} */ (document.querySelector(".caption-form button")).click();
  const state = document.querySelector(".caption-state")?.textContent ?? "";
  return { state, tookMs: performance.now() - began };
});
console.log(`${stopped.state} (after ${stopped.tookMs.toFixed(1)} ms)`);
// The newest first.
const said = await page.locator(".caption-list li p:last-child").allTextContents();
await close();

const faults = [];
const twice = said.filter((text, i) => i > 0 && text === said[i - 1]);
if (twice.length > 0)
  faults.push(`captions that say what the one before says: ${twice.join("; ")}`);
if (said.length < Math.min((minutes * 60) / SCENE_S - 1, 50))
  faults.push("scenes without a caption");
if ((heaps.at(-1) ?? 0) > (heaps[0] ?? 0) + MARGIN_MB) faults.push("the page's heap grows");
if (!stopped.state.startsWith("Stopped.")) faults.push("it does not stop at once");
for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
