/**
 * The demo page for everybody: WCAG by axe-core in each state that it has, by keyboard alone, and
 * in each language.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { AXE, assertAccessible } from "./axe.mjs";
import { ask, beGreedy, load, openDemo, SAMPLES, screenshot, speak } from "./demo.mjs";

test("axe-core finds nothing in any state, light and dark, desktop and phone", async (t) => {
  // The page's own policy lets no script in but its own.
  const { page, close } = await openDemo({ context: { bypassCSP: true } });
  t.after(close);
  await beGreedy(page);
  const inject = () => page.addScriptTag({ path: AXE });
  await inject();
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    await page.emulateMedia({ colorScheme });
    await assertAccessible(page, `first view, ${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.getByText("Numbers", { exact: true }).click();
  await page.locator("#open-settings").click();
  await page.getByText("Kept in this browser", { exact: true }).click();
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    await page.emulateMedia({ colorScheme });
    await assertAccessible(page, `models and settings, ${colorScheme}`);
    await screenshot(page, `settings-${colorScheme}`);
  }
  await page.keyboard.press("Escape");
  await ask(page, "What appears first?", join(SAMPLES, "unicorn-cake-owl.webm"));
  await page.getByRole("heading", { name: "Event 1" }).waitFor();
  await ask(page, "Where is the zebra?", join(SAMPLES, "train-zebra.png"));
  await page.setInputFiles("#attach", {
    name: "words.png",
    mimeType: "image/png",
    buffer: Buffer.from("words"),
  });
  await page.getByLabel("Your question").fill("What is this?");
  await page.keyboard.press("Enter");
  await page.locator("#ask-alert").getByText("That picture can't be read.").waitFor();
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    await page.emulateMedia({ colorScheme });
    await assertAccessible(page, `everything open, ${colorScheme}`);
    await screenshot(page, `everything-${colorScheme}`);
  }
  await page.setViewportSize({ width: 360, height: 740 });
  await assertAccessible(page, "everything open, on a phone");
  await page.getByRole("button", { name: "See train-zebra.png as the model did" }).click();
  await page.getByRole("heading", { name: "What the model saw" }).waitFor();
  await assertAccessible(page, "what the model saw, on a phone");
  await screenshot(page, "saw-phone");
  await page.keyboard.press("Escape");
  await page.getByRole("heading", { name: "What the model saw" }).waitFor({ state: "hidden" });
  await page.getByRole("button", { name: "Conversations" }).click();
  await page.getByRole("button", { name: /^Rename/ }).waitFor();
  await assertAccessible(page, "the conversations, on a phone");
  await screenshot(page, "conversations-phone");
  await page.keyboard.press("Escape");
  await page.setViewportSize({ width: 1600, height: 900 });
  await assertAccessible(page, "three columns");
  await screenshot(page, "three-columns");
  await page.setViewportSize({ width: 360, height: 740 });
  await load(page, undefined, async () => {
    await page.locator("#model-choice").selectOption({ label: "Another, by its address" });
    await page
      .getByLabel("Address of a manifest or GGUF")
      .fill("https://models.example/a-folder-with-a-long-name/another-one/manifest.json");
  });
  const asks = page.getByRole("dialog", { name: "Ask models.example for a model?" });
  await asks.waitFor();
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    await page.emulateMedia({ colorScheme });
    await assertAccessible(page, `asking for another host, ${colorScheme}`);
    await screenshot(page, `another-host-${colorScheme}`);
  }
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter"); // Not now.
  await asks.waitFor({ state: "hidden" });
  await screenshot(page, "everything-phone");
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `the page is ${overflow} px wider than a phone`);
});

test("all of it works by keyboard alone", async (t) => {
  const { page, close } = await openDemo();
  t.after(close);
  await beGreedy(page);
  await page.reload(); // A keyboard begins at the page's beginning.
  await page.getByRole("button", { name: "A train and a zebra" }).waitFor();
  await page.keyboard.press("Tab");
  assert.equal(
    await page.evaluate(() => document.activeElement?.textContent),
    "Skip to the question",
  );
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "question");

  const tabTo = async (/** @type {string} */ name, backwards = false) => {
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press(backwards ? "Shift+Tab" : "Tab");
      const at = await page.evaluate(() => {
        let element = document.activeElement;
        while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
        return (
          element?.getAttribute("aria-label") ??
          element?.querySelector("img")?.alt ??
          element?.textContent?.trim()
        );
      });
      if (at?.startsWith(name)) return;
    }
    assert.fail(`no way to ${name}`);
  };
  await tabTo("A train and a zebra", true);
  await page.keyboard.press("Enter");
  await page
    .getByLabel("Attached pictures and clips")
    .getByLabel("train-zebra.png", { exact: true })
    .waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.id), "question");
  await page.keyboard.press("ControlOrMeta+A");
  await page.keyboard.type("Where is the zebra?");
  await page.keyboard.press("Enter");
  await page.locator('.answer[aria-busy="false"]').getByText("top right").waitFor();
  assert.equal(await page.locator("#announce").textContent(), "Answer: top right");
  await tabTo("Stage of merging");
  await page.keyboard.press("ArrowRight");
  await page.getByText("Stage 2: 64 patches became 12 tokens").waitFor();
  await tabTo("64 patches became 12 tokens");
  await page.keyboard.press("ArrowRight");
  await page.getByText(/^Token \d+ of 12 stands for \d+ patch/).waitFor();
});

test("the page speaks Japanese and Chinese, all of it, and keeps to it", async (t) => {
  for (const [language, tag, button] of /** @type {const} */ ([
    ["ja", "ja", "質問する"],
    ["zh", "zh-Hans", "提问"],
  ])) {
    const { page, close } = await openDemo({ context: { acceptDownloads: true } });
    t.after(close);
    const english = await page
      .locator("[data-word]")
      .evaluateAll((all) => all.map((element) => element.textContent));
    const labels = () =>
      page
        .locator("[data-word-label], [data-word-placeholder]")
        .evaluateAll((all) =>
          all.map(
            (element) =>
              `${element.getAttribute("aria-label")} ${element.getAttribute("placeholder")}`,
          ),
        );
    const englishLabels = await labels();
    await speak(page, language);
    await page.getByRole("button", { name: button, exact: true }).waitFor();
    assert.equal(await page.locator("html").getAttribute("lang"), tag);
    const translated = await page
      .locator("[data-word]")
      .evaluateAll((all) => all.map((element) => element.textContent));
    assert.deepEqual(
      translated.filter((text, index) => text === english[index]),
      [],
      "what stands in the page is translated",
    );
    assert.deepEqual(
      (await labels()).filter((text, index) => text === englishLabels[index]),
      [],
      "so is what only screen readers tell",
    );
    await load(page, "cpu");
    const asked = page.locator("#question");
    await page.setInputFiles("#attach", join(SAMPLES, "unicorn-cake-owl.webm"));
    await asked.fill("What appears first?");
    await asked.press("Enter");
    await page.locator('.answer[aria-busy="false"]').getByText("unicorn").waitFor();
    await page.locator(".event h3").first().waitFor();
    const said = await page
      .locator(
        ".metrics, .caveat button, .event h3, .event p, .token-map-controls output, .turn-actions button, .suggestions button",
      )
      .allTextContents();
    for (const text of said) assert.doesNotMatch(text, /[A-Za-z]{3}/, text);
    await screenshot(page, `language-${language}`);
    // What stands there is said in the other language as well.
    await speak(page, "en");
    await page.getByRole("heading", { name: "Event 1" }).waitFor();
    await speak(page, language);
    await page.getByRole("heading", { name: "Event 1" }).waitFor({ state: "hidden" });
    await page.reload();
    await page.getByRole("button", { name: button, exact: true }).waitFor();
    await page.locator(".turn").waitFor();
  }
});
