/** A checkpoint of the Hub on the demo page: what it asks before, and what the next visit needs. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { ask, load, openDemo, SAMPLES, screenshot } from "./demo.mjs";
import { cp, rm, writeFile } from "node:fs/promises";
import { FIXTURES, OUTPUT } from "./fixtures.mjs";
import { openHub } from "./hub.mjs";

test("the Hub is asked after a yes, weights are fetched after a second one, once", async (t) => {
  const checkpoint = join(OUTPUT, "demo-hub/checkpoint");
  await rm(checkpoint, { recursive: true, force: true });
  await cp(join(FIXTURES, "golden/e2e/checkpoint"), checkpoint, { recursive: true });
  await writeFile(join(checkpoint, "README.md"), "---\nlicense: llama2\n---\n");
  const tower = "openai/clip-vit-tiny-random-patch14";
  const repositories = {
    "tests/checkpoint": checkpoint,
    [tower]: join(FIXTURES, "golden/e2e", tower),
  };
  const hub = await openHub(repositories);
  t.after(hub.close);
  const { page, url, close } = await openDemo({
    serveFlags: ["--connect-src", "http://127.0.0.1:*"],
    context: { serviceWorkers: "block" }, // It would fetch the page past what is changed here.
  });
  t.after(close);
  const storage = "https://*.huggingface.co https://*.hf.co";
  await page.route(url, async (route) => {
    const response = await route.fetch();
    const html = (await response.text())
      .replaceAll(storage, "http://127.0.0.1:*")
      .replaceAll("https://huggingface.co", hub.url);
    await route.fulfill({ response, body: html });
  });
  const choose = async () => {
    await page.goto(url);
    await load(page, "cpu", async () => {
      await page.locator("#model-choice").selectOption("hub");
      await page.getByLabel("Repository on the Hugging Face Hub").fill("tests/checkpoint");
      await page.getByLabel("A checkpoint is converted to").selectOption("q8_0");
    });
  };
  await choose();
  const { host } = new URL(hub.url);
  await page.getByRole("heading", { name: `Ask ${host} for a model?` }).waitFor();
  assert.deepEqual(await hub.requests(), [], "nothing is asked before a yes");
  await page.getByRole("button", { name: "Ask that site" }).click();
  await page.getByRole("heading", { name: "checkpoint:" }).waitFor();
  await page.getByText(`are fetched from ${host} and its storage`).waitFor();
  await page.getByText("is kept in this browser").waitFor();
  await page.getByText("The weights stand under the licence").getByText("llama2").waitFor();
  await screenshot(page, "hub");
  const described = await hub.requests();
  await page.getByRole("button", { name: "Not now" }).click();
  await page.getByRole("heading", { name: "checkpoint:" }).waitFor({ state: "hidden" });
  assert.deepEqual(await hub.requests(), described, "no weights without a yes");

  await load(page);
  await page.getByRole("button", { name: "Ask that site" }).click();
  await page.getByRole("button", { name: "Download and load" }).click();
  await page.locator("#device").getByText("CPU").waitFor();
  const before = await hub.requests();
  assert.ok(before.length > described.length);
  const picture = join(SAMPLES, "penguin-cookie.png");
  await ask(page, "What is this?", picture);

  await choose();
  await page.locator("#device").getByText("CPU").waitFor();
  assert.deepEqual(await hub.requests(), before, "the next visit asks nobody");
});
