/** The list of conversations on the demo page: opened, named, searched, deleted, and undone. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ask, beGreedy, openDemo, SAMPLES } from "./demo.mjs";

/** @type {Awaited<ReturnType<typeof openDemo>>} */
let opened;
before(async () => {
  // The list stands beside the conversation here.
  opened = await openDemo({ context: { viewport: { width: 1600, height: 900 } } });
  await beGreedy(opened.page);
});
after(() => opened.close());

const titles = () => opened.page.locator(".conversation-title").allTextContents();
/** Waits until the list has these titles. @param {string[]} wanted */
const lists = (...wanted) =>
  opened.page.waitForFunction(
    (wanted) =>
      JSON.stringify(
        [...document.querySelectorAll(".conversation-title")].map((title) => title.textContent),
      ) === wanted,
    JSON.stringify(wanted),
  );
const begin = () => opened.page.getByRole("button", { name: "New conversation" }).click();
/** @param {string} title */
const open = (title) => opened.page.locator(".conversation-open", { hasText: title }).click();

test("a new conversation is undone, and earlier ones are opened again with what was seen", async () => {
  const { page } = opened;
  await page.getByText("None yet.").waitFor();
  await ask(page, "Where is the zebra?", join(SAMPLES, "train-zebra.png"));
  await lists("Where is the zebra?");
  await begin();
  assert.equal(await page.locator(".turn").count(), 0);
  await page.getByRole("button", { name: "Undo" }).click();
  await page.locator(".turn").getByText("top right").waitFor();
  await begin();
  await ask(page, "Can you see a cookie?", join(SAMPLES, "penguin-cookie.png"));
  await lists("Can you see a cookie?", "Where is the zebra?");
  await open("Where is the zebra?");
  await page.locator(".turn").getByText("top right").waitFor();
  assert.equal(await page.locator(".turn").count(), 1);
  await page.getByText("became 24 tokens").first().waitFor();
  // It goes on, with its picture alone.
  assert.equal(await ask(page, "Can you see a cookie?"), "no");
  await page.reload();
  await page.locator(".turn").nth(1).waitFor();
  assert.deepEqual(await titles(), ["Where is the zebra?", "Can you see a cookie?"]);
});

test("one is named anew, and found by what it is called and by what was said in it", async () => {
  const { page } = opened;
  await page.getByRole("button", { name: "Rename “Can you see a cookie?”" }).click();
  await page.getByLabel("Name of the conversation").fill("Something sweet");
  await page.keyboard.press("Enter");
  await lists("Where is the zebra?", "Something sweet");
  await page.getByRole("button", { name: "Rename “Where is the zebra?”" }).click();
  await page.getByLabel("Name of the conversation").fill("Left as it was");
  await page.keyboard.press("Escape");
  await lists("Where is the zebra?", "Something sweet");
  const search = page.getByLabel("Search conversations");
  for (const [text, ...found] of [
    ["SWEET", "Something sweet"],
    ["top right", "Where is the zebra?"],
    ["cookie", "Where is the zebra?", "Something sweet"],
    ["whale"],
  ]) {
    await search.fill(text ?? "");
    await lists(...found);
  }
  await page.getByText("Nothing is found.").waitFor();
  await search.fill("");
});

test("a deleted one comes back by Undo, and is gone with the next visit", async () => {
  const { page } = opened;
  await page.getByRole("button", { name: "Delete “Where is the zebra?”" }).click();
  await lists("Something sweet");
  assert.equal(await page.locator(".turn").count(), 0, "it was open");
  await page.getByRole("button", { name: "Undo" }).click();
  await lists("Where is the zebra?", "Something sweet");
  await page.locator(".turn").nth(1).waitFor();
  await page.getByRole("button", { name: "Delete “Something sweet”" }).click();
  await lists("Where is the zebra?");
  assert.equal(await page.locator(".turn").count(), 2, "another one is open");
  await page.reload();
  await page.locator(".turn").nth(1).waitFor();
  await lists("Where is the zebra?");
  const kept = await page.evaluate(async () => {
    const database = await new Promise((resolve) => {
      const request = indexedDB.open("univi-conversations");
      request.onsuccess = () => resolve(request.result);
    });
    const all = database.transaction("conversations-1").objectStore("conversations-1").getAllKeys();
    return new Promise((resolve) => (all.onsuccess = () => resolve(all.result.length)));
  });
  assert.equal(kept, 3, "a record and two turns");
});

test("Undo brings back what was deleted before another tab was opened", async () => {
  const { page, url } = opened;
  await page.getByRole("button", { name: "Delete “Where is the zebra?”" }).click();
  await lists();
  const other = await page.context().newPage();
  await other.goto(url);
  await other.getByLabel("Your question").waitFor();
  await other.locator(".conversation-open").waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Undo" }).click();
  await page.locator(".turn").nth(1).waitFor();
  await lists("Where is the zebra?");
  await other.locator(".conversation-open", { hasText: "Where is the zebra?" }).waitFor();
  await other.close();
});

test("one that is open in another tab is not opened twice", async () => {
  const { page, url } = opened;
  const other = await page.context().newPage();
  await other.goto(url);
  await other.locator(".conversation-open", { hasText: "Where is the zebra?" }).click();
  await other.getByText("“Where is the zebra?” is open in another tab.").waitFor();
  assert.equal(await other.locator(".turn").count(), 0);
  // What one tab changes, the other lists.
  await other.getByRole("button", { name: "Rename “Where is the zebra?”" }).click();
  await other.getByLabel("Name of the conversation").fill("The zebra");
  await other.keyboard.press("Enter");
  await lists("The zebra");
  await begin();
  await other.locator(".conversation-open", { hasText: "The zebra" }).click();
  await other.locator(".turn").nth(1).waitFor();
  await other.close();
});

test("a question is put again without the pictures before it", async () => {
  const { page } = opened;
  await begin();
  await ask(page, "Can you see a zebra?", join(SAMPLES, "train-zebra.png"));
  await ask(page, "Can you see a zebra?", join(SAMPLES, "penguin-cookie.png"));
  await page.getByRole("button", { name: "Ask without them" }).click();
  await page.locator('.answer[aria-busy="false"]').getByText("no", { exact: true }).waitFor();
  assert.equal(await page.locator(".turn").count(), 1);
  assert.match((await page.locator(".metrics").textContent()) ?? "", /\(42 visual\)/);
});
