/** Conversations of the demo page as files: all of one comes back, and nothing of a bad one. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ask, beGreedy, exported, openDemo, SAMPLES } from "./demo.mjs";
import { OUTPUT } from "./fixtures.mjs";

/** @type {Awaited<ReturnType<typeof openDemo>>} */
let opened;
before(async () => {
  opened = await openDemo();
  await beGreedy(opened.page);
});
after(() => opened.close());

/** What was exported. */
let json = "";

/** Imports this text. @param {string} text @param {string} name */
async function importText(text, name = "conversation.json") {
  const path = join(OUTPUT, name);
  await writeFile(path, text);
  await opened.page.setInputFiles("#import", path);
}

test("a conversation comes back with its pictures, answers and token maps, and goes on", async () => {
  const { page } = opened;
  await ask(page, "Where is the zebra?", join(SAMPLES, "train-zebra.png"));
  await page.getByRole("button", { name: "Ask again: this question" }).click();
  await page.getByText("2 of 2").waitFor();
  await page.locator('.answer[aria-busy="false"]').waitFor();
  await ask(page, "What appears last?", join(SAMPLES, "unicorn-cake-owl.webm"));
  json = await exported(page, "JSON");
  await page.getByRole("button", { name: "Conversations" }).click();
  await page.getByRole("button", { name: "Delete “Where is the zebra?”" }).click();
  await page.locator(".turn").first().waitFor({ state: "detached" });
  await importText(json);
  await page.locator(".turn").nth(1).waitFor();
  await page.locator(".event").first().waitFor(); // What it saw of the clip is drawn.
  assert.deepEqual(JSON.parse(await exported(page, "JSON")), JSON.parse(json));
  assert.notEqual(await ask(page, "Can you see a zebra?"), "");
  assert.match((await page.locator(".metrics").last().textContent()) ?? "", /\(210 visual\)/);
  // It is kept as one that was asked here.
  await page.reload();
  await page.locator(".turn").nth(2).waitFor();
});

test("a bad file gives one error, and nothing of it is kept", async () => {
  const { page } = opened;
  const turns = await page.locator(".turn").count();
  const conversation = () => JSON.parse(json);
  /** @type {[string, string, (changed: any) => void][]} */
  const changes = [
    ["format", "format", (file) => (file.format = "another")],
    ["version", "version", (file) => (file.version = 2)],
    ["no turns", "turns", (file) => (file.turns = [])],
    ["a question", "turns[1].text", (file) => (file.turns[1].text = 7)],
    ["a date", "turns[0].askedAt", (file) => (file.turns[0].askedAt = "yesterday")],
    ["a picture", "attachments[0].data", (file) => (file.turns[0].attachments[0].data = "<>")],
    ["a version", "turns[0].chosen", (file) => (file.turns[0].chosen = 9)],
    [
      "a huge map",
      "turns[0].tokenMap.patchesPerSide",
      (file) => (file.turns[0].attachments[0].tokenMap.patchesPerSide = 1e9),
    ],
    [
      "a token that is none",
      "turns[0].tokenMap.events",
      (file) => (file.turns[0].attachments[0].tokenMap.events[0].stages[0].groups[3] = 99),
    ],
  ];
  for (const [name, where, change] of changes) {
    const changed = conversation();
    change(changed);
    await importText(JSON.stringify(changed), `${name}.json`);
    await page.locator("#ask-alert").getByText(`${name}.json is no conversation`).waitFor();
    assert.match((await page.locator("#ask-alert").textContent()) ?? "", /Nothing was imported\.$/);
    const told = (await page.locator("#ask-alert").textContent()) ?? "";
    assert.ok(told.includes(where), `${told}: ${where}`);
  }
  await importText(json.slice(0, -100), "cut.json");
  await page.locator("#ask-alert").getByText("cut.json is no conversation").waitFor();
  assert.equal(await page.locator(".turn").count(), turns);
  assert.equal(await page.locator(".conversation-open").count(), 1);
});

test("a conversation is imported where it is dropped, beside the one that is open", async () => {
  const { page } = opened;
  await page.evaluate((text) => {
    const data = new DataTransfer();
    data.items.add(new File([text], "dropped.json", { type: "application/json" }));
    dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
  }, json);
  await page.waitForFunction(() => document.querySelectorAll(".conversation-open").length === 2);
  await page.waitForFunction(() => document.querySelectorAll(".turn").length === 2);
  assert.equal(await page.locator(".attachment").count(), 0);
});
