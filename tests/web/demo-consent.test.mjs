/**
 * Models of other hosts on the demo page: not one request reaches another origin before a person
 * agreed, whatever leads there, on a host that sends no policy for the worker. In Chromium and in
 * Firefox.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import puppeteer from "puppeteer-core";
import { launchOptions } from "./chromium.mjs";
import { DIST, load as loadOn, openDemo } from "./demo.mjs";
import { FIREFOX } from "./firefox.mjs";
import { closeHosts, host, NANO } from "./host.mjs";

after(closeHosts);

const MANIFEST = await readFile(join(NANO, "manifest.json"), "utf8");
const { name: NAME, files } = JSON.parse(MANIFEST);
const SIZE = `${(sum(files) / 1e6).toFixed(1)} MB`;

/** @param {{ bytes: number }[]} files */
function sum(files) {
  return files.reduce((total, { bytes }) => total + bytes, 0);
}

/** @type {Record<string, import("puppeteer-core").LaunchOptions>} */
const BROWSERS = {
  Chromium: { browser: "chrome", ...launchOptions([]) },
  Firefox: FIREFOX,
};

/** @typedef {import("puppeteer-core").Page} Page */

/**
 * Waits until what is shown of an element says this.
 *
 * @param {Page} page
 * @param {string} selector
 * @param {string} text
 */
const says = (page, selector, text) =>
  page.waitForFunction(
    (selector, text) => document.querySelector(selector)?.textContent?.includes(text),
    { timeout: 60_000 },
    selector,
    text,
  );
/** @param {Page} page @param {string} text */
const asks = (page, text) => says(page, "#confirm[open]", text);

/**
 * Loads what is chosen on the page, or a model by its address.
 *
 * @param {Page} page
 * @param {string} [address]
 */
async function load(page, address) {
  await page.click("#open-settings");
  if (address !== undefined) {
    await page.select("#model-choice", "url");
    await page.locator("#model-url").fill(address);
  }
  await page.select("#model-device", "cpu");
  await page.click("#model-load");
}

for (const [browserName, launch] of Object.entries(BROWSERS)) {
  test(`another origin hears nothing until a person agrees: ${browserName}`, async (t) => {
    const other = await host();
    const third = await host();
    const address = `${other.url}manifest.json`;
    const otherHost = new URL(other.url).host;
    /** @type {object[]} */
    let offers = [];
    let listGoesOn = false;
    const site = await host({
      folder: DIST,
      cors: {},
      hook: (_, { pathname, search }) => {
        const json = { "Content-Type": "application/json" };
        if (listGoesOn && pathname === "/models/index.json")
          return { status: 302, headers: { Location: `${third.url}index.json` } };
        if (pathname === "/models/index.json")
          return { headers: json, body: JSON.stringify(offers) };
        if (pathname === "/go/manifest.json")
          return { status: 302, headers: { Location: address } };
        if (pathname === "/leads/manifest.json") {
          const manifest = JSON.parse(MANIFEST);
          manifest.files[0].path = `${other.url}${manifest.files[0].path}`;
          return { headers: json, body: JSON.stringify(manifest) };
        }
        // A manifest here, its files sent on to the other host.
        if (pathname === "/half/manifest.json") return { headers: json, body: MANIFEST };
        if (pathname.startsWith("/half/"))
          return { status: 307, headers: { Location: other.url + pathname.slice(6) + search } };
        return undefined;
      },
    });
    const sendsOn = await host({
      hook: (_, { pathname }) => ({
        status: 302,
        headers: { Location: third.url + pathname.slice(1) },
      }),
    });
    const browser = await puppeteer.launch(launch);
    t.after(() => browser.close());
    const page = await browser.newPage();
    const visit = async (query = "") => {
      await page.goto(`${site.url}${query}`);
      await page.waitForFunction(() => !document.querySelector("main.arriving"));
    };
    const silent = (/** @type {string} */ when) =>
      assert.deepEqual(
        [...other.requests, ...third.requests].map(({ path }) => path),
        [],
        when,
      );

    // The address bar, and a question that would load the model.
    await visit(`?model=${encodeURIComponent(address)}`);
    silent("a visit");
    await load(page);
    await page.waitForSelector("#confirm[open]");
    const asked = await page.$eval("#confirm", (dialog) => /** @type {any} */ (dialog).textContent);
    assert.match(asked, new RegExp(`Ask ${otherHost} for a model\\?`));
    assert.ok(asked.includes(address), asked);
    const focus = await page.evaluate(() => document.activeElement?.id);
    assert.equal(focus, "confirm-heading", "a keyboard is where the question is");
    silent("while it is asked");
    await page.click("#confirm-no");
    await page.waitForSelector("#confirm:not([open])");
    await page.type("#question", "What is this?");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#confirm[open]");
    await page.keyboard.press("Escape");
    await page.waitForSelector("#confirm:not([open])");
    silent("after Not now and Escape");

    // What a list of this site leads to, and its field for addresses.
    offers = [{ name: "Theirs", url: address, bytes: 3_400_000 }];
    await visit();
    await load(page);
    await asks(page, "This site lists it as Theirs, 3.4 MB.");
    await page.click("#confirm-no");
    await load(page, address.replace("http://", "http://site.example@"));
    await asks(page, `Ask ${otherHost} for a model?`); // Not the name before the @.
    await page.click("#confirm-no");
    silent("a list, and the field");

    // A list that is sent on, also by way of the service worker, which no policy of the page binds.
    await page.evaluate(() => navigator.serviceWorker.ready.then(() => {}));
    listGoesOn = true;
    await visit();
    await visit();
    listGoesOn = false;
    silent("a list that is sent on");

    // What servers send on, and what a manifest of this site names.
    for (const [path, why] of [
      ["go/manifest.json", "sends on to another address"],
      ["leads/manifest.json", ""],
      ["half/manifest.json", "sends on to another address"],
    ]) {
      await visit(`?model=${path}`);
      await load(page);
      await page.waitForSelector("#model-alert:not([hidden])", { timeout: 60_000 });
      const alert = await page.$eval("#model-alert", (alert) => alert.textContent ?? "");
      assert.ok(alert.includes(why ?? ""), `${path}: ${alert}`);
      assert.equal(await page.$("#confirm[open]"), null);
      silent(path ?? "");
    }

    // The first yes is good for the description, the second for the rest, and for that host alone.
    await visit(`?model=${encodeURIComponent(`${sendsOn.url}manifest.json`)}`);
    await load(page);
    await page.waitForSelector("#confirm[open]");
    await page.click("#confirm-yes");
    await says(page, "#model-alert", "sends on to another address");
    assert.equal(sendsOn.requests.length, 1);
    silent("a host that was agreed to sends on to another");

    await visit(`?model=${encodeURIComponent(address)}`);
    await load(page);
    await page.waitForSelector("#confirm[open]");
    await page.click("#confirm-yes");
    await asks(page, `${NAME}: ${SIZE} to download`);
    await asks(page, `It comes from ${otherHost}, which is not this site.`);
    assert.deepEqual(
      other.requests.map(({ path }) => path),
      ["/manifest.json"],
    );
    await page.click("#confirm-yes");
    await says(page, "#announce", `${NAME} is ready`);
    const answered = await page.$$eval("#confirm[open]", (open) => open.length);
    assert.equal(answered, 0);
    assert.equal(third.requests.length, 0);

    // What was agreed to is not asked again during the visit; the next one asks anew.
    await load(page);
    await page.waitForSelector("#device:not([hidden])", { timeout: 60_000 });
    assert.equal(await page.$("#confirm[open]"), null);
    const before = other.requests.length;
    await visit(`?model=${encodeURIComponent(address)}`);
    await load(page);
    await asks(page, `Ask ${otherHost} for a model?`);
    assert.equal(other.requests.length, before);
  });
}

test("a host whose policy forbids another one says so, also after a yes", async (t) => {
  const other = await host();
  const path = `?model=${encodeURIComponent(`${other.url}manifest.json`)}`;
  const { page, close } = await openDemo({ path });
  t.after(close);
  await loadOn(page, "cpu");
  await page.getByRole("button", { name: "Ask that site" }).click();
  const { origin } = new URL(other.url);
  await page
    .getByRole("alert")
    .getByText(`content security policy forbids it; its connect-src must allow ${origin}`)
    .waitFor();
  assert.equal(other.requests.length, 0);
});
