/** `<univi-chat>` in a page of a few lines, in Chromium: by pointer, by keyboard, by programs. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { AXE } from "./axe.mjs";
import { openPage } from "./chromium.mjs";
import { MODELS } from "./fixtures.mjs";
import { serve } from "./server.mjs";

/** @typedef {import("univi/chat").UniviChatElement} Chat Brings the element to the compiler. */

const SAMPLES = fileURLToPath(new URL("../../www/public/samples/", import.meta.url));
const PENGUIN = join(SAMPLES, "penguin-cookie.png");

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
before(async () => {
  opened = await openPage({ path: "chat-element.html" });
});
beforeEach(() => opened.page.goto(`${opened.url}chat-element.html`));
after(() => opened.close());

/** The element, and what of it people see. */
function chat() {
  const element = opened.page.locator("univi-chat");
  return {
    element,
    field: element.getByRole("textbox"),
    picker: element.locator("input[type=file]"),
    log: element.getByRole("log"),
    answers: element.locator(".answer"),
    clear: element.getByRole("button", { name: "Start over" }),
  };
}

/** @param {string} text */
const answered = (text) => chat().log.getByText(text, { exact: true }).waitFor();

test("a picture is asked about by keyboard, a further question knows it, and it starts over", async () => {
  const { page, requests } = opened;
  const { field, picker, log, answers, clear, element } = chat();
  const fetched = async () =>
    (await requests(0)).filter(({ path }) => path.startsWith("/models/")).length;
  const before = await fetched();
  await field.waitFor();
  assert.equal(await fetched(), before, "nothing is fetched before somebody asks");
  await picker.setInputFiles(PENGUIN);
  await element.getByRole("img", { name: "penguin-cookie.png" }).waitFor();
  await page.keyboard.type("Can you see a penguin?"); // The field has the focus by now.
  await page.keyboard.press("Enter");
  await answered("yes");
  assert.ok((await fetched()) > before);
  await field.fill("What colour is the background?");
  await field.press("Enter");
  await answered("red");
  assert.equal(await answers.count(), 2);
  assert.equal(await log.locator("img").count(), 1, "with its question");
  await clear.click();
  assert.equal(await answers.count(), 0);
  assert.ok(!(await clear.isVisible()));
});

test("a picture without a word is described", async () => {
  const { page } = opened;
  const { field, picker, log, answers } = chat();
  await field.waitFor();
  await page.keyboard.press("Enter"); // Nothing at all asks nothing.
  await picker.setInputFiles(PENGUIN);
  await page.keyboard.press("Enter");
  await answered("Describe the picture.");
  await answers.filter({ hasText: "penguin" }).waitFor();
  assert.equal(await log.locator("img").count(), 1);
});

test("answers are drawn as Markdown, of which nothing can do harm", async () => {
  const drawn = await opened.page.evaluate(async () => {
    const { markdown } = await import(`${location.origin}/pkg/dist/markdown.js`);
    const draw = (/** @type {string} */ source, /** @type {unknown} */ moment = undefined) => {
      const place = document.createElement("div");
      place.append(...markdown(source, moment));
      return place.innerHTML;
    };
    return {
      words: draw("**Two** `owls`:\n\n1. one\n2. <b onclick=alert(1)>two</b>"),
      links: draw("[a](javascript:alert(1)) [b](https://example.org/) ![c](https://d/e.png)"),
      moments: draw(
        "At 0:04, then 1:00:04.5.",
        (/** @type {string} */ _, /** @type {number} */ at) => document.createTextNode(`<${at}>`),
      ),
    };
  });
  assert.equal(
    drawn.words,
    "<p><strong>Two</strong> <code>owls</code>:</p>" +
      '<ol start="1"><li>one</li><li>&lt;b onclick=alert(1)&gt;two&lt;/b&gt;</li></ol>',
  );
  assert.equal(
    drawn.links,
    '<p>[a](javascript:alert(1)) <a href="https://example.org/" target="_blank" ' +
      'rel="noopener noreferrer nofollow" title="https://example.org/">b</a> ![c](https://d/e.png)</p>',
  );
  assert.equal(drawn.moments, "<p>At &lt;4&gt;, then &lt;3604.5&gt;.</p>");
});

test("files are dropped, pasted, and taken away", async () => {
  const { field, element } = chat();
  await field.waitFor();
  const counts = await element.evaluate(async (node) => {
    const file = async (/** @type {string} */ name) =>
      new File([await (await fetch(`/samples/${name}`)).blob()], name, { type: "image/png" });
    const root = /** @type {ShadowRoot} */ (node.shadowRoot);
    const transfer = async (/** @type {string} */ name) => {
      const data = new DataTransfer();
      data.items.add(await file(name));
      return data;
    };
    const count = () => root.querySelectorAll("form li").length;
    const dataTransfer = await transfer("penguin-cookie.png");
    node.dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
    const dropped = count();
    const clipboardData = await transfer("trophies-bee.png");
    root
      .querySelector("textarea")
      ?.dispatchEvent(new ClipboardEvent("paste", { clipboardData, cancelable: true }));
    return [dropped, count()];
  });
  assert.deepEqual(counts, [1, 2]);
  await element.getByRole("button", { name: "Remove trophies-bee.png" }).click();
  await field.fill("Can you see a penguin?");
  await element.getByRole("button", { name: "Ask" }).click();
  await answered("yes");
});

test("programs ask, hear of answers and failures, and another model knows what was said", async () => {
  const said = await chat().element.evaluate(async (node) => {
    const chat = /** @type {Chat} */ (node);
    /** @type {unknown[]} */
    const events = [];
    chat.addEventListener("answer", ({ detail }) => events.push(detail.text));
    chat.addEventListener("failure", ({ detail }) => events.push(detail.code));
    const blob = await (await fetch("/samples/penguin-cookie.png")).blob();
    const picture = new File([blob], "penguin.png", { type: "image/png" });
    const asked = chat.ask("Can you see a penguin?", [picture]);
    const twice = await chat.ask("And now?").catch((error) => error.code);
    const first = await asked;
    chat.setAttribute("model", "/models/nothing/manifest.json");
    const missing = await chat.ask("Who?").catch((error) => error.code);
    chat.setAttribute("model", "/models/univi-nano/manifest.json");
    const parent = /** @type {HTMLElement} */ (chat.parentElement);
    chat.remove();
    await Promise.resolve();
    parent.append(chat);
    return {
      first,
      twice,
      missing,
      second: await chat.ask("What colour is the background?"),
      events,
    };
  });
  assert.equal(said.first, "yes");
  assert.equal(said.twice, "bad-request");
  assert.equal(said.second, "red", "the picture of before is known");
  assert.deepEqual(said.events, ["yes", said.missing, "red"]);
  await chat().element.getByRole("alert").waitFor();
});

test("what goes wrong leaves it usable, and nothing that was written is lost", async () => {
  const { field, log, element } = chat();
  await field.waitFor();
  await element.evaluate((chat) => chat.setAttribute("model", "/models/nothing/manifest.json"));
  await field.fill("A long question");
  await field.press("Enter");
  await element.getByRole("alert").waitFor();
  assert.equal(await field.inputValue(), "A long question");
  const said = await element.evaluate(async (node) => {
    const chat = /** @type {Chat} */ (node);
    const code = (/** @type {() => Promise<unknown>} */ work) =>
      work().catch((/** @type {any} */ error) =>
        error.name === "UniviError" ? error.code : error.name,
      );
    chat.setAttribute("model", "/models/univi-nano/manifest.json");
    const odd = await code(() => chat.ask("a", /** @type {any} */ (["/a.png"])));
    const none = await code(() => chat.ask("a", /** @type {any} */ (null)));
    const left = code(() => chat.ask("a"));
    chat.clear();
    const stopped = await code(() => chat.ask("cat.png"));
    /** @type {unknown} */
    const next = await new Promise((resolve) => {
      chat.addEventListener(
        "answer",
        () => resolve(chat.ask("What is this?").then(() => "asked")),
        {
          once: true,
        },
      );
      chat.ask("Who are you?");
    });
    return { odd, none, left: await left, stopped: typeof stopped, next };
  });
  assert.deepEqual(said, {
    odd: "bad-request",
    none: "TypeError",
    left: "AbortError",
    stopped: "string",
    next: "asked",
  });
  assert.ok(await log.getByText("cat.png", { exact: true }).isVisible());
});

test("what was stopped is known to the next model, and a load stops with its question", async () => {
  const { element } = chat();
  const said = await element.evaluate(async (node) => {
    const chat = /** @type {Chat} */ (node);
    const blob = await (await fetch("/samples/penguin-cookie.png")).blob();
    const picture = new File([blob], "penguin.png", { type: "image/png" });
    const send = /** @type {HTMLButtonElement} */ (chat.shadowRoot?.querySelector(".send"));
    const loading = chat.ask("a").catch((error) => error.name);
    await new Promise((resolve) => chat.addEventListener("progress", resolve, { once: true }));
    send.click();
    const name = await loading;
    const asked = chat.ask("Can you see a penguin?", [picture]).catch((error) => error.name);
    const answer = () => [...(chat.shadowRoot?.querySelectorAll(".answer") ?? [])].at(-1);
    while (answer()?.textContent !== "yes") await new Promise((resolve) => setTimeout(resolve));
    chat.setAttribute("model", "/models/univi-nano/./manifest.json");
    await asked;
    return { name, colour: await chat.ask("What colour is the background?") };
  });
  assert.deepEqual(said, { name: "AbortError", colour: "red" });
});

test("what a page sets before the element is defined counts", async () => {
  const { page, url } = opened;
  await page.goto(`${url}empty.html`);
  const own = await page.evaluate(async () => {
    const chat = /** @type {Chat} */ (document.createElement("univi-chat"));
    const { Univi } = await import(`${location.origin}/pkg/dist/index.js`);
    const univi = await Univi.create({ model: "/models/univi-nano/manifest.json", device: "cpu" });
    chat.univi = univi;
    document.body.append(chat);
    await import(`${location.origin}/pkg/dist/chat.js`);
    return [Object.hasOwn(chat, "univi"), (await chat.load()) === univi];
  });
  assert.deepEqual(own, [false, true]);
});

test("a server answers in the model's place", async () => {
  const { page, url } = opened;
  const flags = ["--model", join(MODELS, "univi-nano"), "--device", "cpu", "--api-key", "sesame"];
  const server = await serve({ "/": SAMPLES }, [...flags, "--allow-origin", url]);
  try {
    await page.goto(`${url}empty.html`);
    await page.evaluate(async (remote) => {
      const chat = /** @type {Chat} */ (document.createElement("univi-chat"));
      chat.setAttribute("remote", remote);
      chat.apiKey = "sesame"; // Before the element is defined.
      document.body.append(chat);
      await import(`${location.origin}/pkg/dist/chat.js`);
    }, server.url);
    const { field, picker } = chat();
    await picker.setInputFiles(PENGUIN);
    await field.fill("Can you see a penguin?");
    await field.press("Enter");
    await answered("yes");
  } finally {
    await server.close();
  }
});

test("it speaks the language around it, and has nothing that a screen reader stumbles over", async () => {
  const { page } = opened;
  const { field, element } = chat();
  await page.evaluate(() => {
    document.documentElement.lang = "ja";
    document.querySelector("univi-chat")?.setAttribute("placeholder", "何が見えますか");
  });
  await element.getByRole("button", { name: "質問する" }).waitFor();
  assert.equal(await field.getAttribute("placeholder"), "何が見えますか");
  await page.addScriptTag({ path: AXE });
  const found = await page.evaluate(async () => {
    const { axe } = /** @type {typeof globalThis & { axe: { run: Function } }} */ (globalThis);
    /** @type {{ violations: { id: string }[] }} */
    const { violations } = await axe.run("univi-chat");
    return violations.map(({ id }) => id);
  });
  assert.deepEqual(found, []);
});

test("a server may import elements, which are of use in pages alone", async () => {
  const { UniviChatElement } = await import("univi/chat");
  const { UniviTokensElement } = await import("univi/elements");
  assert.deepEqual(
    [UniviChatElement.name, UniviTokensElement.name],
    ["UniviChatElement", "UniviTokensElement"],
  );
});
