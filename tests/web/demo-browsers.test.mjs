/**
 * The main flows of the demo page in Firefox and WebKit: a picture and a clip are asked about, the
 * camera is opened, and all goes on after a reload and without a network. What a browser lacks is
 * said.
 */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { demoFolders, SAMPLES, SCREENSHOTS } from "./demo.mjs";
import { openFirefox } from "./firefox.mjs";
import { serve } from "./server.mjs";
import { openWebkit } from "./webkit.mjs";

/** @typedef {Awaited<ReturnType<typeof openFirefox | typeof openWebkit>>["page"]} Page */

/**
 * The browsers, and what a person is told in each.
 *
 * @type {Record<string, { open: () => Promise<{ page: Page, close: () => Promise<void> }>,
 * keepsFiles: boolean, camera: string | undefined }>}
 */
const BROWSERS = {
  Firefox: { open: openFirefox, keepsFiles: true, camera: undefined },
  // Debian's driver opens private windows alone, whose database takes no files, and there is no
  // camera.
  WebKit: { open: openWebkit, keepsFiles: false, camera: "There is no camera." },
};

/**
 * Waits until an element shows this text.
 *
 * @param {Page} page
 * @param {string} selector
 * @param {string} text
 */
const says = (page, selector, text) =>
  page.until(
    (selector, text) =>
      [...document.querySelectorAll(selector)].some(
        (one) => one.checkVisibility() && one.textContent?.includes(text),
      ),
    selector,
    text,
  );

/**
 * Asks, and waits until the answer is whole -> it.
 *
 * @param {Page} page
 * @param {string} question
 * @param {string[]} files
 */
async function ask(page, question, ...files) {
  const turns = await page.evaluate(() => document.querySelectorAll(".turn").length);
  for (const file of files) await page.type("#attach", join(SAMPLES, file));
  await page.type("#question", question);
  await page.click("#ask");
  await page.until(
    (turns) => document.querySelectorAll('.answer[aria-busy="false"]').length > turns,
    turns,
  );
  return page.evaluate(
    () => [...document.querySelectorAll(".answer")].at(-1)?.getAttribute("data-written") ?? "",
  );
}

/** Waits until the page can be used. @param {Page} page */
const arrives = (page) => page.until(() => document.querySelectorAll("#samples button").length > 0);

for (const [name, { open, keepsFiles, camera }] of Object.entries(BROWSERS))
  test(`asked about pictures, clips and the camera, reloaded, and offline: ${name}`, async (t) => {
    const server = await serve(await demoFolders());
    t.after(() => server.close());
    const { page, close } = await open();
    t.after(close);
    try {
      await page.goto(server.url);
      await arrives(page);

      // A picture: the model comes with the question. There is no WebGPU, so the CPU computes.
      const question = "List everything from left to right.";
      assert.equal(await ask(page, question, "penguin-cookie.png"), "penguin and cookie");
      await says(page, "#device", "CPU");
      await says(page, "#token-map output", "64 patches became 24 tokens");
      const unkept = "can't be kept for the next visit: the browser stores nothing here";
      if (!keepsFiles) await says(page, "#ask-alert", unkept);

      // A clip, which plays beside its events.
      assert.equal(await ask(page, "What appears last?", "unicorn-cake-owl.webm"), "owl");
      await says(page, ".event-heading", "Event 2");
      await page.click(".event:nth-child(2) .event-heading");
      await page.until(() => {
        const player = document.querySelector("video.player");
        return player instanceof HTMLVideoElement && player.currentTime > 0;
      });

      // The camera, or what to do without one.
      await page.click("#camera-open");
      if (camera) await says(page, "#ask-alert", camera);
      else {
        await says(page, "#camera-status", "Watching");
        assert.notEqual(await ask(page, "How many things are there?"), "");
        await page.click("#camera .button.quiet");
      }

      await page.reload();
      await arrives(page);
      const turns = keepsFiles ? (camera ? 2 : 3) : 0;
      await page.until((turns) => document.querySelectorAll(".turn").length === turns, turns);

      // Without a network: page, samples and model lie here.
      await page.until(async () => {
        const name = (await caches.keys()).find((name) => name.startsWith("page-"));
        const kept = name === undefined ? [] : await (await caches.open(name)).keys();
        return ["two-scenes.webm", "web_bg"].every((part) =>
          kept.some(({ url }) => url.includes(part)),
        );
      });
      await server.close();
      await page.reload();
      await arrives(page);
      await page.click("#new-conversation");
      await page.click("#samples button");
      await page.until(() => document.querySelector(".attachment") !== null);
      await page.click("#ask");
      await page.until(() => document.querySelector('.answer[aria-busy="false"]') !== null);
      await says(page, ".answer", "penguin");
    } catch (error) {
      const picture = await page.screenshot().catch(() => undefined);
      if (picture) await writeFile(join(SCREENSHOTS, `flows-${name}.png`), picture);
      throw error;
    }
  });

test("on WebGPU, where Firefox has it switched on", async (t) => {
  const server = await serve(await demoFolders());
  t.after(() => server.close());
  const { page, close } = await openFirefox({ webgpu: true });
  t.after(close);
  await page.goto(server.url);
  await arrives(page);
  // The adapter is software here, so that the page takes the CPU if left to itself.
  await page.evaluate(() => {
    const device = document.querySelector("select:has(option[value='webgpu'])");
    if (device instanceof HTMLSelectElement) device.value = "webgpu";
    device?.dispatchEvent(new Event("change", { bubbles: true }));
  });
  const question = "List everything from left to right.";
  assert.equal(await ask(page, question, "penguin-cookie.png"), "penguin and cookie");
  await says(page, "#device", "WebGPU");
});
