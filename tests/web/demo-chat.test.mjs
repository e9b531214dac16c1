/**
 * A conversation on the demo page: asking again and anew, several visuals, and what is kept of it
 * between visits.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import {
  answerOf,
  ask,
  beGreedy,
  exported,
  inDrawer,
  isInSight,
  NANO,
  openDemo,
  SAMPLES,
  screenshot,
  speak,
} from "./demo.mjs";
import { nanoThatEndsAt, OUTPUT } from "./fixtures.mjs";

/** @type {Awaited<ReturnType<typeof openDemo>>} */
let opened;
before(async () => {
  opened = await openDemo({
    offers: [{ ...NANO, questions: ["Describe the picture."] }],
    context: { permissions: ["clipboard-read", "clipboard-write"] },
  });
  await beGreedy(opened.page);
});
after(() => opened.close());

const sample = (/** @type {string} */ name) => join(SAMPLES, name);

test("a suggested question is asked about a sample, and its answer copied", async () => {
  const { page } = opened;
  await page.getByRole("button", { name: "Describe the picture." }).waitFor(); // What the model is offered with.
  await page.getByRole("button", { name: "A penguin and a cookie" }).click();
  await page.getByRole("button", { name: "List everything from left to right." }).click();
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  assert.equal(await answerOf(page, 0), "penguin and cookie");
  await page.getByRole("button", { name: "Copy the answer" }).click();
  await page.getByText("Copied").first().waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "penguin and cookie");
});

test("a follow-up reads its own words alone, and is edited into another one", async () => {
  const { page } = opened;
  assert.equal(await ask(page, "Can you see an elephant?"), "no");
  await page.getByRole("button", { name: "Edit this question" }).last().click();
  assert.equal(await page.getByLabel("Your question").inputValue(), "Can you see an elephant?");
  await page.getByText("Asking this question anew").waitFor();
  await page.getByLabel("Your question").fill("Can you see a penguin?");
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await page.locator(".turn").nth(1).getByText("Can you see a penguin?").waitFor();
  assert.equal(await answerOf(page, 1), "yes");
  assert.equal(await page.locator(".turn").count(), 2);
});

test("an edit that is left changes nothing", async () => {
  const { page } = opened;
  await page.getByRole("button", { name: "Edit this question" }).first().click();
  await page.keyboard.press("Escape");
  await page.getByText("Asking this question anew").waitFor({ state: "hidden" });
  assert.equal(await page.getByLabel("Your question").inputValue(), "");
  assert.equal(await page.locator(".turn").count(), 2);
});

test("the last question is asked again, and both answers are kept", async () => {
  const { page } = opened;
  const last = page.locator(".turn").last();
  await page.getByRole("button", { name: "Ask again: this question" }).last().click();
  await last.getByText("2 of 2").waitFor();
  assert.equal(await answerOf(page, 1), "yes");
  assert.equal(await page.locator(".turn").count(), 2);
  await last.getByRole("button", { name: "The earlier answer" }).click();
  await last.getByText("1 of 2").waitFor();
  assert.equal(await answerOf(page, 1), "yes");
});

test("an answer without a word says so, and its question is put in other words", async () => {
  const name = await nanoThatEndsAt("yes");
  const offers = [{ name: "It never says yes", url: `/${name}/manifest.json`, bytes: 4_000_000 }];
  const { page, close } = await openDemo({
    offers,
    folders: { [`/${name}/`]: join(OUTPUT, name, "/") },
  });
  try {
    await beGreedy(page);
    assert.equal(await ask(page, "Can you see a penguin?", sample("penguin-cookie.png")), "");
    const told = page.locator(".turn").last().locator(".metrics");
    assert.match(
      (await told.textContent()) ?? "",
      /^The model said nothing: try other words\. \d+ tokens in/,
    );
    await page.getByRole("button", { name: "Edit this question" }).last().click();
    await page.getByLabel("Your question").fill("Can you see an elephant?");
    await page.getByRole("button", { name: "Ask", exact: true }).click();
    await page.locator(".turn").last().getByText("Can you see an elephant?").waitFor();
    assert.match(await answerOf(page, 0), /^no\b/); // And on: its own end of answers is none any more.
    assert.equal(await page.locator(".turn").count(), 1);
  } finally {
    await close();
  }
});

test("the conversation is there again after a reload, and goes on", async () => {
  const { page } = opened;
  await page.reload();
  await page.getByText("penguin and cookie", { exact: true }).waitFor();
  assert.equal(await page.locator(".turn").count(), 2);
  await page.getByText("became 24 tokens").first().waitFor(); // What it saw is drawn.
  await screenshot(page, "talk-restored");
  assert.equal(await ask(page, "Can you see a cookie?"), "yes");
  assert.match(
    (await page.locator(".metrics").last().textContent()) ?? "",
    /42 visual/,
    "the picture is part of the conversation still",
  );
});

test("a second tab has a conversation of its own, which leaves the first one's alone", async () => {
  const { page, url } = opened;
  const other = await page.context().newPage();
  await other.goto(url);
  await other.getByRole("button", { name: "A penguin and a cookie" }).waitFor();
  assert.equal(await other.locator(".turn").count(), 0);
  await ask(other, "Can you see a whale?", sample("train-zebra.png"));
  await other.getByRole("button", { name: "New conversation" }).click();
  await other.close();
  await page.reload();
  await page.getByText("penguin and cookie", { exact: true }).waitFor();
  assert.equal(await page.locator(".turn").count(), 3);
});

test("an answer that is on its way when all begins anew does not come back", async () => {
  const { page, url } = opened;
  const other = await page.context().newPage();
  await other.goto(url);
  await other.getByLabel("Your question").fill("Describe the picture.");
  await other.setInputFiles("#attach", sample("unicorn-cake-owl.webm"));
  await other.keyboard.press("Enter");
  await other.locator(".turn", { hasText: "Describe the picture." }).waitFor();
  await other.getByRole("button", { name: "New conversation" }).click();
  await other.getByRole("button", { name: "A penguin and a cookie" }).waitFor();
  assert.notEqual(await ask(other, "Can you see a whale?", sample("train-zebra.png")), "");
  assert.equal(await other.locator(".turn").count(), 1);
  await other.close();
});

test("it is taken away as Markdown and JSON", async () => {
  const { page } = opened;
  const json = await exported(page, "JSON");
  const { format, turns } = JSON.parse(json);
  assert.equal(format, "univi-conversation");
  assert.deepEqual(
    turns.map((/** @type {{ text: string, answer: string }} */ { text, answer }) => [text, answer]),
    [
      ["List everything from left to right.", "penguin and cookie"],
      ["Can you see a penguin?", "yes"],
      ["Can you see a cookie?", "yes"],
    ],
  );
  const [attachment] = turns[0].attachments;
  assert.equal(attachment.name, "penguin-cookie.png");
  assert.deepEqual(
    attachment.tokenMap.events[0].stages.map(
      (/** @type {{ tokens: number }} */ { tokens }) => tokens,
    ),
    [24, 12, 6],
  );
  assert.equal(attachment.tokenMap.events[0].stages[0].groups.length, 64);
  const markdown = await exported(page, "Markdown");
  assert.match(
    markdown,
    /^# List everything from left to right\.\n\n> !\[penguin-cookie\.png\]\[picture-1\]\n>\n> List everything from left to right\.\n\npenguin and cookie\n\n\*UniVi nano, /,
  );
  const picture = (await readFile(sample("penguin-cookie.png"))).toString("base64");
  assert.ok(markdown.endsWith(`[picture-1]: data:image/png;base64,${picture}\n`));
});

test("two pictures in one turn, a pasted one and a dropped one", async () => {
  const { page } = opened;
  await page.getByRole("button", { name: "New conversation" }).click();
  const bytes = [...(await readFile(sample("train-zebra.png")))];
  for (const kind of ["paste", "drop"]) {
    await page.evaluate(
      ([kind, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, { type: "image/png" }));
        const event =
          kind === "paste"
            ? new ClipboardEvent("paste", { clipboardData: data })
            : new DragEvent("drop", { dataTransfer: data, cancelable: true });
        dispatchEvent(event);
      },
      /** @type {const} */ ([kind, bytes]),
    );
  }
  for (const name of ["paste.png", "drop.png"])
    await page
      .getByLabel("Attached pictures and clips")
      .getByLabel(name, { exact: true })
      .waitFor();
  await ask(page, "Can you see a zebra?");
  assert.match((await page.locator(".metrics").last().textContent()) ?? "", /84 visual/);
  assert.equal(await page.locator(".turn .turn-attachments button").count(), 2);
  await page.getByRole("button", { name: "See drop.png as the model did" }).click();
  assert.equal(
    await page
      .getByRole("button", { name: "See drop.png as the model did" })
      .getAttribute("aria-pressed"),
    "true",
  );
  await page.reload();
  await page.locator(".turn").waitFor();
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.reload();
  await page.getByRole("button", { name: "A penguin and a cookie" }).waitFor();
  assert.equal(await page.locator(".turn").count(), 0, "what was started over does not come back");
});

test("settings change what is read, and are kept", async () => {
  const { page } = opened;
  const slider = page.getByLabel("Tokens a picture is merged to");
  await inDrawer(page, () => slider.fill("32"));
  assert.equal(
    await ask(page, "List everything from left to right.", sample("train-zebra.png")),
    "train and zebra",
  );
  const visual = Number(
    /(\d+) visual/.exec((await page.locator(".metrics").last().textContent()) ?? "")?.[1],
  );
  assert.ok(visual >= 30 && visual <= 34, `${visual} visual tokens`);
  await inDrawer(page, async () => {
    await page.getByLabel("Frames of a clip, at most").fill("4");
    await page.getByLabel("Frames of a clip, at most").blur();
  });
  await page.getByRole("button", { name: "New conversation" }).click();
  await ask(page, "What appears first?", sample("unicorn-cake-owl.webm"));
  await page.getByRole("heading", { name: "Event 1" }).waitFor();
  assert.equal(await page.locator("univi-events button").count(), 4);
  await page.reload();
  assert.equal(await slider.inputValue(), "32");
  await inDrawer(page, () => page.getByRole("button", { name: "Back to the defaults" }).click());
  assert.equal(await slider.inputValue(), "0");
  assert.equal(await page.locator("#visual-tokens-value").textContent(), "the model's own");
});

test("a number that means nothing is told where it stands", async () => {
  const { page } = opened;
  const turns = await page.locator(".turn").count();
  await inDrawer(page, () => page.getByLabel("Temperature").fill("7"));
  await page.getByLabel("Your question").fill("Where is the cookie?");
  await page.keyboard.press("Enter");
  await page.getByLabel("Temperature").waitFor();
  assert.equal(
    await page
      .getByLabel("Temperature")
      .evaluate((field) => /** @type {HTMLInputElement} */ (field).validity.rangeOverflow),
    true,
  );
  assert.equal(
    await page.getByLabel("Temperature").evaluate((field) => document.activeElement === field),
    true,
  );
  assert.equal(await page.locator(".turn").count(), turns, "nothing was asked");
  await page.locator("#close-drawer").click();
  assert.equal(await page.getByLabel("Your question").inputValue(), "Where is the cookie?");
});

test("where the browser stores nothing, the page answers and says so", async (t) => {
  const { page, close } = await openDemo();
  t.after(close);
  // As Safari's private windows refuse files, and browsers that block a site's data all of it.
  await page.addInitScript(() => {
    const refused = (/** @type {string} */ name) => () => {
      throw new DOMException("Refused here", name);
    };
    const blob = refused("DataCloneError");
    const { put } = IDBObjectStore.prototype;
    IDBObjectStore.prototype.put = function (/** @type {any} */ value, /** @type {any} */ key) {
      return value?.attachments?.length > 0 ? blob() : put.call(this, value, key);
    };
    Object.defineProperty(navigator, "storage", { value: undefined });
    Object.defineProperty(globalThis, "localStorage", { get: refused("SecurityError") });
    CacheStorage.prototype.open = async () => refused("SecurityError")();
  });
  await page.reload();
  await beGreedy(page);
  assert.equal(
    await ask(page, "Where is the zebra?", join(SAMPLES, "train-zebra.png")),
    "top right",
  );
  await page.locator("#ask-alert").getByText("as in a private window").waitFor();
  await inDrawer(page, async () => {
    await page.getByText("Kept in this browser").click();
    await page.getByText("Nothing is kept.").waitFor();
  });
  await speak(page, "ja");
  await page.getByRole("button", { name: "質問する" }).waitFor();
});

test("a sample on its way is waited for, and overwrites nothing", async (t) => {
  const { page, close } = await openDemo({ context: { serviceWorkers: "block" } });
  t.after(close);
  await beGreedy(page);
  const question = page.getByLabel("Your question");
  await page.route("**/samples/trophies-bee.png", (route) => route.fulfill({ status: 500 }));
  await question.fill("Is it there?");
  await page.getByRole("button", { name: "Two trophies and a bee" }).click();
  await page.locator("#ask-alert").getByText("trophies-bee.png").waitFor();
  assert.equal(await question.inputValue(), "Is it there?");

  await question.fill("");
  await page.setInputFiles("#attach", sample("penguin-cookie.png"));
  /** @type {() => void} */
  let arrive = () => {};
  const late = new Promise((resolve) => (arrive = () => resolve(undefined)));
  await page.route("**/samples/train-zebra.png", async (route) => {
    await late;
    await route.continue();
  });
  await page.getByRole("button", { name: "A train and a zebra" }).click();
  assert.notEqual(await question.inputValue(), ""); // It proposes one at once.
  await question.fill("How many things are there?");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator(".turn").count(), 0);
  arrive();
  await answerOf(page, 0);
  assert.equal(await question.inputValue(), "");
  await page.locator(".turn").getByText("How many things are there?").waitFor();
  assert.equal(await page.locator(".turn canvas.thumb").count(), 2);
});

test("after twenty turns the composer is in sight, and what had no room is said", async (t) => {
  const { page, close } = await openDemo();
  t.after(close);
  await beGreedy(page);
  const picture = sample("train-zebra.png");
  for (let turn = 0; turn < 20; turn++) await ask(page, "Can you see a zebra?", picture);
  // 42 tokens a picture and some words: the 1,024 of the model do not hold twenty of them.
  await page
    .getByText(/^The conversation was full: its \d+ oldest turns were left out\.$/)
    .last()
    .waitFor();
  const used = await page
    .locator("#context-meter")
    .evaluate((meter) => /** @type {HTMLMeterElement} */ (meter).value);
  assert.ok(used > 0.5 && used <= 1, `the meter says ${used}`);
  for (const [width, height] of /** @type {const} */ ([
    [1280, 720],
    [390, 844],
    [360, 640],
  ])) {
    await page.setViewportSize({ width, height });
    for (const top of [true, false]) {
      await page.evaluate((top) => scrollTo(0, top ? 0 : document.body.scrollHeight), top);
      for (const part of ["#question", "#ask", "#samples"])
        assert.ok(await isInSight(page, part), `${part} at ${width}x${height}`);
    }
    // The last answer stands above it.
    const answer = await page.locator(".turn").last().locator(".answer").boundingBox();
    const dock = await page.locator("#dock").boundingBox();
    assert.ok(answer && dock && answer.y + answer.height <= dock.y + 1, `${width}x${height}`);
    await screenshot(page, `twenty-turns-${width}`);
  }
  // What is left of a conversation that lost turns is put anew, and goes on after a reload.
  const before = await page.locator(".turn").last().elementHandle();
  await page.getByRole("button", { name: "Ask again: this question" }).last().click();
  await page.waitForFunction((turn) => !turn?.isConnected, before);
  assert.match(await answerOf(page, 19), /^(yes|no)/);
  await page.reload();
  await page.locator(".turn").nth(19).waitFor();
  assert.match(await ask(page, "Can you see a train?"), /^(yes|no)/);
  assert.equal(await page.locator(".turn").count(), 21);
});

test("an answer says what the model can't know, and what it read before", async (t) => {
  const { page, close } = await openDemo();
  t.after(close);
  await beGreedy(page);
  await page.getByRole("button", { name: "A penguin and a cookie" }).click();
  await ask(page, "Can you see a penguin?");
  const warning = page.getByText(/^UniVi nano knows emoji alone/);
  assert.equal(await warning.count(), 0, "samples are what it knows");
  await ask(page, "Can you see a zebra?", sample("train-zebra.png"));
  const second = page.locator(".turn").nth(1);
  await second.getByText(/^UniVi nano knows emoji alone/).waitFor();
  await second.getByText("Before this question the model had read a picture").waitFor();
  await second.getByRole("img", { name: "penguin-cookie.png" }).waitFor();
  await page.reload();
  await second.getByText(/^UniVi nano knows emoji alone/).waitFor();
  assert.equal(await warning.count(), 1);
  await second.getByRole("button", { name: "Models that know photographs" }).click();
  await page.getByRole("heading", { name: "Models that know photographs" }).waitFor();
  await page.getByRole("button", { name: "Chat-UniVi 7B", exact: true }).click();
  assert.equal(await page.locator("#model-choice").inputValue(), "hub");
  assert.equal(await page.locator("#hub-repository").inputValue(), "Chat-UniVi/Chat-UniVi");
});

test("Markdown is drawn, and HTML stays text", async (t) => {
  const { page, close } = await openDemo();
  t.after(close);
  await beGreedy(page);
  await ask(page, "What appears first?", sample("unicorn-cake-owl.webm"));
  const answer = [
    "**Two** things, `a < b`:",
    "",
    "1. a train",
    "2. a [zebra](https://example.org/zebra) and [a trap](javascript:alert(1))",
    "",
    "<img src=x onerror=alert(1)> ![far](https://example.org/far.png) at 0:04",
    "",
    "```",
    "<script>alert(1)</script>",
    "```",
  ].join("\n");
  /** @type {string[]} */
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.evaluate(async (answer) => {
    const database = await new Promise((resolve) => {
      const request = indexedDB.open("univi-conversations");
      request.onsuccess = () => resolve(request.result);
    });
    const store = database
      .transaction("conversations-1", "readwrite")
      .objectStore("conversations-1");
    const all = await new Promise((resolve) => {
      const request = store.getAllKeys();
      request.onsuccess = () => resolve(request.result);
    });
    const key = all.find((/** @type {unknown} */ key) => Array.isArray(key));
    await new Promise((resolve) => {
      const request = store.get(key);
      request.onsuccess = () => resolve(store.put({ ...request.result, answer }, key));
    });
  }, answer);
  await page.reload();
  const drawn = page.locator(".answer.drawn");
  await drawn.locator("strong", { hasText: "Two" }).waitFor();
  assert.deepEqual(await drawn.locator("ol li").allTextContents(), [
    "a train",
    "a zebra and [a trap](javascript:alert(1))",
  ]);
  assert.deepEqual(
    await drawn.locator("a").evaluateAll((links) => links.map((a) => a.getAttribute("href"))),
    ["https://example.org/zebra"],
  );
  assert.equal(await drawn.locator("code").first().textContent(), "a < b");
  await drawn.getByText("<img src=x onerror=alert(1)>").waitFor();
  assert.equal(await drawn.locator("img, script").count(), 0);
  assert.equal(await drawn.locator("pre").textContent(), "<script>alert(1)</script>");
  assert.deepEqual(
    asked.filter((url) => url.includes("example.org")),
    [],
  );
  // A time leads into the clip.
  await drawn.getByRole("button", { name: "Show the clip at 0:04" }).click();
  await page.waitForFunction(() => {
    const clip = /** @type {HTMLVideoElement | null} */ (document.querySelector("video.player"));
    return clip !== null && Math.abs(clip.currentTime - 4) < 0.1;
  });
});

test("a clip plays beside its events, and events and times lead into it", async (t) => {
  const { page, close } = await openDemo();
  t.after(close);
  await beGreedy(page);
  await ask(page, "What appears first?", sample("unicorn-cake-owl.webm"));
  const player = page.getByLabel("The clip", { exact: true });
  await player.waitFor();
  const time = () =>
    player.evaluate((video) => /** @type {HTMLVideoElement} */ (video).currentTime);
  const second = page.locator(".event").nth(1);
  await second.getByRole("button", { name: /^Event 2/ }).click();
  const [, seconds = ""] = /0:(\d+)/.exec((await second.locator("h3").textContent()) ?? "") ?? [];
  assert.ok(Math.abs((await time()) - Number(seconds)) < 0.1, `${await time()} for 0:${seconds}`);
  assert.match((await second.getAttribute("class")) ?? "", /current/);
  // As it plays on, the timeline and the events follow.
  await player.evaluate(async (video) => {
    const clip = /** @type {HTMLVideoElement} */ (video);
    clip.muted = true;
    clip.currentTime = Math.max(clip.duration - 1, 0);
    await clip.play();
  });
  await page.locator(".event.current", { hasNotText: "Event 2" }).waitFor();
  await page.locator("univi-events button").first().click();
  await page.waitForFunction(() => {
    const clip = /** @type {HTMLVideoElement | null} */ (document.querySelector("video.player"));
    return clip !== null && clip.currentTime < 0.5;
  });
});
