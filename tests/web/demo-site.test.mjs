/** The demo page as a site: its weight, offline after a visit, and below any path. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { ask, beGreedy, DIST, isInSight, NANO, openDemo, SAMPLES, speak } from "./demo.mjs";

/** Bytes of a first view, models and WebAssembly come after it. */
const FIRST_VIEW_BYTES = 200_000;
const INTERACTIVE_MS = 1500;
const LAYOUT_SHIFT = 0.05;
/** The best of several: other work on the machine only adds. */
const VISITS = 3;

test("a first view is light, quick, and does not move", async (t) => {
  const note =
    "It tells what there is, how many, where, in which order and which way, in pictures and clips of a small world. It knows nothing else.";
  const questions = [
    "Describe the picture.",
    "What is there from left to right?",
    "How many things are there?",
    "What happens in the clip?",
  ];
  const { page, url, close } = await openDemo({
    offers: [{ ...NANO, note, questions }],
    context: { serviceWorkers: "block" },
  });
  t.after(close);
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  await session.send("Network.setCacheDisabled", { cacheDisabled: true });
  let bytes = 0;
  /** @type {string[]} */
  const fetched = [];
  session.on("Network.loadingFinished", ({ encodedDataLength }) => (bytes += encodedDataLength));
  session.on("Network.responseReceived", ({ response }) => fetched.push(response.url));
  await page.addInitScript(() => {
    const shifts = { total: 0 };
    Object.assign(globalThis, { shifts });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries())
        shifts.total += /** @type {PerformanceEntry & { value: number }} */ (entry).value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  /** @type {Record<"interactive" | "weights" | "shifts", number[]>} */
  const { interactive, weights, shifts } = { interactive: [], weights: [], shifts: [] };
  for (const [width, height] of /** @type {const} */ ([
    [1280, 720],
    [390, 844],
  ])) {
    await page.setViewportSize({ width, height });
    for (let visit = 0; visit < VISITS; visit++) {
      await page.goto("about:blank"); // What the visit before still fetched is not of this one.
      bytes = 0;
      fetched.length = 0;
      const began = performance.now();
      await page.goto(url, { waitUntil: "commit" });
      // Whoever can ask can do all the rest.
      await page.waitForFunction(
        () => document.querySelectorAll("#model-choice option").length > 1,
      );
      interactive.push(performance.now() - began);
      await page.getByRole("button", { name: "A penguin and a cookie" }).waitFor();
      await page.waitForLoadState("networkidle");
      weights.push(bytes);
      assert.ok(bytes < FIRST_VIEW_BYTES, `${bytes} bytes: ${fetched.join(" ")}`);
      const shift = await page.evaluate(
        () =>
          /** @type {typeof globalThis & { shifts: { total: number } }} */ (globalThis).shifts
            .total,
      );
      shifts.push(shift);
      assert.ok(shift < LAYOUT_SHIFT, `layout shift of ${shift} at ${width} px`);
      for (const part of ["#question", "#attach + .icon", "#camera-open", "#samples", "#ask"])
        assert.ok(await isInSight(page, part), `${part} at ${width}x${height}`);
    }
  }
  const told = interactive.map(Math.round).join(", ");
  t.diagnostic(
    `${Math.max(...weights)} bytes, interactive after ${told} ms, layout shift ${Math.max(...shifts).toFixed(3)}`,
  );
  assert.ok(Math.min(...interactive) < INTERACTIVE_MS, `interactive after ${told} ms`);
});

test("after a visit, the page and its model work without a network", async (t) => {
  const { page, close } = await openDemo();
  t.after(close);
  await beGreedy(page);
  assert.equal(
    await ask(page, "Where is the zebra?", join(SAMPLES, "train-zebra.png")),
    "top right",
  );
  // The page keeps what it consists of while nobody waits for it.
  await page.waitForFunction(async () => {
    const [name] = (await caches.keys()).filter((name) => name.startsWith("page-"));
    if (!name) return false;
    const kept = await (await caches.open(name)).keys();
    return (
      kept.some(({ url }) => url.endsWith(".wasm")) &&
      kept.some(({ url }) => url.includes("two-scenes.webm"))
    );
  });
  const kept = await page.evaluate(async () => {
    const [name = ""] = (await caches.keys()).filter((name) => name.startsWith("page-"));
    return (await (await caches.open(name)).keys()).map(({ url }) => url);
  });
  // Who converts nothing fetches nothing for it.
  assert.deepEqual(
    kept.filter((url) => /convert|conversion/.test(url)),
    [],
  );
  await page.context().setOffline(true);
  await page.reload();
  await page.getByText("top right").waitFor();
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.getByRole("button", { name: "A penguin and a cookie" }).click();
  assert.equal(await ask(page, "List everything from left to right."), "penguin and cookie");
  await speak(page, "ja");
  await page.getByRole("button", { name: "質問する" }).waitFor();
});

test("a browser can install it", async (t) => {
  const { page, url, close } = await openDemo();
  t.after(close);
  const session = await page.context().newCDPSession(page);
  const { errors, url: manifest } = await session.send("Page.getAppManifest");
  assert.deepEqual(errors, []);
  assert.equal(manifest, `${url}app.webmanifest`);
  const { icons } = JSON.parse(await readFile(join(DIST, "app.webmanifest"), "utf8"));
  for (const { src } of icons) assert.ok((await readFile(join(DIST, src))).length > 0, src);
  await page.evaluate(() => navigator.serviceWorker.ready);
  const { installabilityErrors } = await session.send("Page.getInstallabilityErrors");
  assert.deepEqual(
    installabilityErrors.filter(({ errorId }) => errorId !== "in-incognito"),
    [],
  );
});

test("the built folder works below any path", async (t) => {
  const { page, url, close } = await openDemo({ at: "/some/where/" });
  t.after(close);
  /** @type {string[]} */
  const outside = [];
  page.on("request", (request) => {
    if (!request.url().startsWith(`${url}some/where/`) && !request.url().startsWith("blob:"))
      outside.push(request.url());
  });
  await page.reload();
  await beGreedy(page);
  await page.getByRole("button", { name: "A train and a zebra" }).click();
  assert.equal(await ask(page, "Where is the zebra?"), "top right");
  assert.deepEqual(outside, []);
});
