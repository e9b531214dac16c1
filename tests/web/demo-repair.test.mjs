/**
 * A host that answers wrongly once, with HTML, a file that is cut, or one flipped byte, which
 * browsers and proxies may keep for a year: the next visit has the right bytes.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { launchOptions } from "./chromium.mjs";
import { ask, beGreedy, DIST, SAMPLES, speak } from "./demo.mjs";
import { closeHosts, host, NANO } from "./host.mjs";

const FAULTS = {
  HTML: (/** @type {Buffer} */ _) => Buffer.from("<!doctype html><title>Not here</title>"),
  cut: (/** @type {Buffer} */ bytes) => bytes.subarray(0, bytes.length / 2),
  flipped: (/** @type {Buffer} */ bytes) => {
    const copy = Buffer.from(bytes);
    copy.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1);
    return copy;
  },
};

/** @typedef {keyof typeof FAULTS} Fault */
const KINDS = /** @type {const} */ (["HTML", "cut", "flipped"]);

/** All that is built, by its address below the page's. */
const ASSETS = (await readdir(DIST, { recursive: true, withFileTypes: true }))
  .filter((entry) => entry.isFile())
  .map((entry) => relative(DIST, join(entry.parentPath, entry.name)))
  .sort();
/** The page and a list, which may change, and the service worker, which the browser keeps. */
const OWN_WAY = ["index.html", "samples/index.json", "service-worker.js"];
const NANO_OFFER = JSON.stringify([{ name: "UniVi nano", url: "nano/manifest.json", bytes: 4e6 }]);

/** The next answers for these addresses are broken so. @type {Map<string, Fault[]>} */
const faults = new Map();
/** @type {Awaited<ReturnType<typeof host>>} */
let site;
/** @type {import("playwright-core").Browser} */
let browser;
before(async () => {
  site = await host({
    folder: DIST,
    hook: (_, { pathname }) => {
      if (pathname === "/models/index.json")
        return { headers: { "Content-Type": "application/json" }, body: NANO_OFFER };
      if (pathname.startsWith("/nano/"))
        return { path: join(relative(DIST, NANO), pathname.slice(6)) };
      const asset = pathname === "/" ? "index.html" : pathname.slice(1);
      // Names with a hash of the content are kept for good, as hosts are told to; pages are not.
      const headers = {
        "Cache-Control": asset.startsWith("assets/") ? "max-age=31536000, immutable" : "no-cache",
      };
      const fault = faults.get(asset)?.shift();
      return { path: `/${asset}`, headers, ...(fault ? { bend: FAULTS[fault] } : {}) };
    },
  });
  browser = await chromium.launch(launchOptions([]));
});
after(async () => {
  await browser?.close();
  await closeHosts();
});

/** @typedef {import("./demo.mjs").Page} Page */

/**
 * A visitor who has not been here before.
 *
 * @param {import("node:test").TestContext} t
 */
async function visitor(t) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  return page;
}

test("the service worker keeps what was built, and nothing else", async (t) => {
  const page = await visitor(t);
  await page.goto(site.url);
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.reload();
  const session = await page.context().newCDPSession(page);
  /** The SHA-256 of what the page gets for an asset, and of what is kept; "" for nothing. */
  const fetched = (/** @type {string} */ asset) =>
    page.evaluate(async (asset) => {
      const hash = async (/** @type {Response | undefined} */ response) => {
        if (!response) return "";
        const bytes = await crypto.subtle.digest("SHA-256", await response.arrayBuffer());
        return [...new Uint8Array(bytes)].map((b) => b.toString(16).padStart(2, "0")).join("");
      };
      const answer = await fetch(asset).then(hash, () => "");
      return [answer, await hash(await caches.match(new URL(asset, location.href)))];
    }, asset);
  /** Puts bytes where the service worker keeps an asset, or takes them away. */
  const put = (/** @type {string} */ asset, /** @type {string | undefined} */ text) =>
    page.evaluate(
      async ([asset = "", text]) => {
        const [name = ""] = (await caches.keys()).filter((name) => name.startsWith("page-"));
        const cache = await caches.open(name);
        if (text === undefined) await cache.delete(asset);
        else await cache.put(asset, new Response(text));
      },
      [asset, text],
    );
  for (const asset of ASSETS.filter((asset) => !OWN_WAY.includes(asset))) {
    const right = sha256(await readFile(join(DIST, asset)));
    for (const fault of KINDS) {
      await put(asset, undefined);
      await session.send("Network.clearBrowserCache");
      faults.set(asset, [fault]);
      assert.deepEqual(await fetched(asset), [right, right], `${asset}, ${fault} once`);
      assert.deepEqual(faults.get(asset), [], "it was asked for");
    }
    await put(asset, undefined);
    await session.send("Network.clearBrowserCache");
    faults.set(asset, ["flipped", "flipped"]);
    // What is named by its content is never handed on wrong; a site may change the rest.
    const wrong = sha256(FAULTS.flipped(await readFile(join(DIST, asset))));
    const passed = asset.startsWith("assets/") ? "" : wrong;
    assert.deepEqual(await fetched(asset), [passed, ""], `${asset}, wrong twice`);
    // The wrong bytes lie in the browser's own cache now.
    assert.deepEqual(await fetched(asset), [right, right], `${asset}, wrong before`);
    await put(asset, "what an earlier version kept");
    assert.deepEqual(await fetched(asset), [right, right], `${asset}, broken where it is kept`);
  }
});

test("after a visit with any file wrong, the next one answers", async (t) => {
  const built = ASSETS.filter((asset) => asset.startsWith("assets/"));
  const visits = [
    ...KINDS.map((_, visit) => built.filter((_, index) => index % KINDS.length === visit)),
    ["index.html"],
    ["offline.js", "service-worker.js"],
  ];
  for (const [visit, assets] of visits.entries()) {
    const page = await visitor(t);
    for (const [index, asset] of assets.entries())
      faults.set(asset, [/** @type {Fault} */ (KINDS[(visit + index) % KINDS.length])]);
    await page.goto(site.url).catch(() => {}); // A page that is cut may not arrive at all.
    page.setDefaultTimeout(4000);
    await page.evaluate(() => {
      const patience = new Promise((resolve) => setTimeout(resolve, 15_000));
      return Promise.race([navigator.serviceWorker.ready.then(() => {}), patience]);
    });
    await answers(page).catch(() => {}); // It may, or not: what counts is the next time.
    page.setDefaultTimeout(60_000);
    await page.goto("about:blank");
    await page.goto(site.url);
    assert.equal(await answers(page), "unicorn", assets.join());
    const padding = await page
      .locator(".composer")
      .evaluate((box) => getComputedStyle(box).padding);
    assert.notEqual(padding, "0px", `it is styled: ${assets}`);
    for (const [language, button] of /** @type {const} */ ([
      ["ja", "質問する"],
      ["zh", "提问"],
    ])) {
      await speak(page, language);
      await page.getByRole("button", { name: button, exact: true }).waitFor();
    }
    await page.context().close();
  }
});

/**
 * Asks about a clip, for which all code is needed but that of other languages.
 *
 * @param {Page} page
 */
async function answers(page) {
  await beGreedy(page);
  return ask(page, "What appears first?", join(SAMPLES, "unicorn-cake-owl.webm"));
}

/** @param {Buffer} bytes */
function sha256(bytes) {
  return createHash("sha256").update(bytes).digest("hex");
}
