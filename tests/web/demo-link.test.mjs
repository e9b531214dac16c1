/** A question of the demo page, with its settings, as a link. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { ask, openDemo, SAMPLES } from "./demo.mjs";

const QUESTION = "What is there from left to right? 50 % & more";

test("a link carries a question and settings, and no picture; following it asks nothing", async (t) => {
  const context = { permissions: ["clipboard-read", "clipboard-write"] };
  const opened = await openDemo({ context, webgpu: false });
  t.after(opened.close);
  const { page } = opened;
  await page.getByRole("button", { name: "Settings" }).click();
  await page.locator("#temperature").fill("0");
  await page.locator("#temperature").blur();
  await page.keyboard.press("Escape");
  await ask(page, QUESTION, join(SAMPLES, "penguin-cookie.png"));
  await page.getByRole("button", { name: "Copy a link to this question" }).click();
  const link = new URL(await page.evaluate(() => navigator.clipboard.readText()));
  assert.deepEqual(Object.fromEntries(new URLSearchParams(link.hash.slice(1))), {
    question: QUESTION,
    temperature: "0",
  });
  assert.equal(link.searchParams.get("model"), "nano/manifest.json");

  const other = await openDemo({ path: `${link.search}${link.hash}`, webgpu: false });
  t.after(other.close);
  const field = other.page.locator("#question");
  await other.page.waitForFunction(() => location.hash === "");
  assert.equal(await field.inputValue(), QUESTION);
  assert.equal(await other.page.locator("#temperature").inputValue(), "0");
  assert.match((await other.page.locator("#notice").textContent()) ?? "", /sets: Temperature/);
  assert.equal(await other.page.locator(".turn").count(), 0);
  // What the link says is of this visit: undone, and after a reload, the page's own is there.
  await other.page.locator("#notice").getByRole("button").click();
  assert.equal(await other.page.locator("#temperature").inputValue(), "0.2");
  assert.equal(await field.inputValue(), QUESTION);
});

test("what a link can't say is named, and the rest is taken", async (t) => {
  const hash = "#question=a&temperature=hot&topP=0.5&__proto__=x&camera=on";
  const { page, close } = await openDemo({ path: hash, webgpu: false });
  t.after(close);
  await page.waitForFunction(() => location.hash === "");
  const said = (await page.locator("#notice").textContent()) ?? "";
  assert.match(said, /sets: .*Top/i);
  assert.match(said, /can't be used here: temperature, (__proto__, )?camera/);
  assert.equal(await page.locator("#temperature").inputValue(), "0.2");
});
