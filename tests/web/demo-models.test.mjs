/**
 * Models on the demo page: what is said before a large download, pausing it, what is kept, numbers,
 * and a GPU that goes away.
 */
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import {
  answerOf,
  ask,
  beGreedy,
  inDrawer,
  load,
  NANO,
  openDemo,
  SAMPLES,
  screenshot,
} from "./demo.mjs";
import { MODELS, realModel } from "./fixtures.mjs";

const SMOLLM2 = await realModel("gguf/smollm2/expected.json");

test("a large model is asked about first, paused, resumed, kept, and removed", async (t) => {
  const large = { name: "SmolLM2", url: `real/${SMOLLM2}` }; // Its size is asked of the server.
  const { page, close, requests } = await openDemo({
    offers: [large, NANO],
    folders: { "/real/": join(MODELS, "/") },
    serveFlags: ["--throttle", "30MB"],
  });
  t.after(close);
  await load(page, "cpu");
  await page.getByRole("heading", { name: "SmolLM2: 98.4 MB to download" }).waitFor();
  await page.getByText("It will run on CPU.").waitFor();
  await page.getByText("The browser can keep it for the next visit").waitFor();
  assert.equal(
    await page.evaluate(() => document.activeElement?.id),
    "confirm-heading",
    "a keyboard is where the question is",
  );
  await screenshot(page, "preflight");
  await page.getByRole("button", { name: "Not now" }).click();
  await page
    .getByRole("heading", { name: "SmolLM2: 98.4 MB to download" })
    .waitFor({ state: "hidden" });

  await load(page);
  await page.getByRole("button", { name: "Download and load" }).click();
  await page.getByText(/SmolLM2.*: \d+\.\d MB of 98\.4 MB, .*\/s/).waitFor();
  await page.getByText(/[3-9]\d\.\d MB of 98\.4 MB/).waitFor();
  await screenshot(page, "loading");
  await page.getByRole("button", { name: "Pause" }).click();
  await page
    .locator("#loading")
    .getByText(/Paused at \d+\.\d MB of 98\.4 MB/)
    .waitFor();
  await page.getByRole("button", { name: "Resume" }).click();
  // Less than is asked about is missing by now.
  await page.locator("#device").getByText("CPU").waitFor();
  assert.notEqual(await ask(page, "What is the capital of France?"), "");
  // By now the server has told of what it sent.
  const whole = (await requests(0)).filter(
    ({ path, status }) => path.endsWith(SMOLLM2) && status === 200,
  );
  const rest = (await requests(0)).filter(
    ({ path, status }) => path.endsWith(SMOLLM2) && status === 206,
  );
  assert.ok(rest.length >= 1, `${whole.length} whole and ${rest.length} partial answers`);

  await inDrawer(page, async () => {
    await page.getByText("Kept in this browser").click();
    await page.getByText("98.4 MB, last used").waitFor();
    await page.getByText(/This site uses \d/).waitFor();
    await screenshot(page, "kept");
    await page.getByRole("button", { name: `Remove ${SMOLLM2}` }).click();
    await page.getByText("Nothing is kept.").waitFor();
  });
});

test("what was published is listed with what it needs, and whether this GPU holds it", async (t) => {
  const { page, close } = await openDemo({ offers: [NANO] });
  t.after(close);
  /** @type {string[]} */
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await inDrawer(page, async () => {
    const entry = (/** @type {string} */ name) =>
      page.locator("#photo-models-list li").filter({ has: page.getByRole("button", { name }) });
    const large = entry("Chat-UniVi 13B");
    await large.getByText("26.65 GB to fetch, converted to q4_k_m: 8.46 GB to keep").waitFor();
    const memory = page.getByLabel("Memory of this computer's GPU");
    await memory.selectOption("4");
    await large.getByText("Too large.").waitFor();
    await entry("Chat-UniVi 7B v1.5").getByText("Too large.").waitFor();
    await memory.selectOption("12");
    // 14.4 GB of q8_0 is too much for it, 8.5 GB and 3.4 GB of cache are not.
    await large.getByText("converted to q4_k_m: 8.46 GB to keep, 11.82 GB on the GPU").waitFor();
    await large.getByText("It fits.").waitFor();
    await page.getByLabel("Memory of a conversation").selectOption("q8");
    await large.getByText("9.40 GB on the GPU").waitFor();
    await large.scrollIntoViewIfNeeded();
    await screenshot(page, "published");
    await entry("Chat-UniVi 7B v1.5").getByRole("button").click();
    const repository = page.getByLabel("Repository on the Hugging Face Hub");
    assert.equal(await repository.inputValue(), "Chat-UniVi/Chat-UniVi-7B-v1.5");
    assert.equal(await page.getByLabel("A checkpoint is converted to").inputValue(), "q8_0");
  });
  assert.deepEqual(
    asked.filter((url) => new URL(url).host !== new URL(page.url()).host),
    [],
  );
});

test("numbers are plotted, and a benchmark makes a report", async (t) => {
  const { page, close } = await openDemo();
  t.after(close);
  await beGreedy(page);
  await page.getByText("Numbers", { exact: true }).click();
  await page.getByText("They come with the first answer.").waitFor();
  await ask(page, "List everything from left to right.", join(SAMPLES, "train-zebra.png"));
  await ask(page, "Where is the zebra?");
  await page
    .getByRole("img", { name: /^Speed, answer by answer: .* tokens\/s, .* tokens\/s/ })
    .waitFor();
  assert.match(
    (await page.locator(".facts").textContent()) ?? "",
    /AdapterWebAssembly.*Visual tokens42.*Conversation\d+ of 1024 tokens.*Memory of the module\d/,
  );
  await page.getByRole("button", { name: "Run benchmark" }).click();
  await page.getByText("## UniVi benchmark").waitFor();
  await screenshot(page, "numbers");
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "Save" }).click(),
  ]);
  const report = await readFile(await download.path(), "utf8");
  assert.match(report, /\| Model \| univi-nano, 3\.\d MB \|/);
  assert.match(report, /\| Prompt \| \d+ tokens, 42 of them visual \|/);
  assert.match(report, /\| Answering \| \d+\.\d tokens\/s \|/);
});

test("models come from an address, from files and from a folder", async (t) => {
  const { page, close } = await openDemo({ offers: [] });
  t.after(close);
  await beGreedy(page);
  const choose = (/** @type {string} */ label) =>
    page.locator("#model-choice").selectOption({ label });
  const folder = join(MODELS, "univi-nano");
  const files = (await readdir(folder))
    .filter((name) => /\.(gguf|json|model)$/.test(name))
    .map((name) => join(folder, name));
  const ways = [
    async () => {
      await choose("Another, by its address");
      await page.getByLabel("Address of a manifest or GGUF").fill("nano/manifest.json");
    },
    async () => {
      await choose("Files on this computer");
      await page.getByLabel("Manifest and its files, or one GGUF").setInputFiles(files);
    },
    async () => {
      await choose("A folder on this computer");
      await page.getByLabel("Folder of a model").setInputFiles(folder);
    },
  ];
  for (const [index, way] of ways.entries()) {
    await load(page, undefined, way);
    await page.locator("#announce").getByText("univi-nano is ready on CPU").waitFor();
    // Each model takes the conversation over.
    const said =
      index === 0
        ? await ask(page, "Where is the zebra?", join(SAMPLES, "train-zebra.png"))
        : await ask(page, "Where is the zebra?");
    assert.equal(said, "top right");
    assert.match((await page.locator(".metrics").last().textContent()) ?? "", /42 visual/);
    await page.locator("#announce").getByText("Answer: top right").waitFor();
  }
});

test("without WebGPU the CPU is offered, and answers", async (t) => {
  const { page, close } = await openDemo({ webgpu: false });
  t.after(close);
  await beGreedy(page, "webgpu");
  await load(page);
  await page.getByRole("alert").getByText("There is no WebGPU here.").waitFor();
  await screenshot(page, "no-webgpu");
  await page.getByRole("button", { name: "Use the CPU instead" }).click();
  await page.locator("#device").getByText("CPU").waitFor();
  assert.equal(
    await ask(page, "Where is the zebra?", join(SAMPLES, "train-zebra.png")),
    "top right",
  );
});

test("a GPU that goes away is begun anew, and the conversation goes on", async (t) => {
  const { page, close } = await openDemo();
  t.after(close);
  await beGreedy(page, "webgpu");
  assert.equal(
    await ask(page, "List everything from left to right.", join(SAMPLES, "train-zebra.png")),
    "train and zebra",
  );
  const browser = page.context().browser();
  assert.ok(browser);
  const session = await browser.newBrowserCDPSession();
  await session.send("Browser.crashGpuProcess").catch(() => {}); // It does not answer.
  await page.getByLabel("Your question").fill("Where is the zebra?");
  await page.keyboard.press("Enter");
  assert.equal(await answerOf(page, 1), "top right");
  assert.match((await page.locator(".metrics").last().textContent()) ?? "", /42 visual/);
});

test("a list of models that is broken is named, and the rest of the page works", async (t) => {
  const { page, close } = await openDemo({ context: { serviceWorkers: "block" } });
  t.after(close);
  let list = "";
  await page.route("**/models/index.json", (route) =>
    route.fulfill({ contentType: "application/json", body: list }),
  );
  for (const [text, says] of /** @type {const} */ ([
    ['[{ "name": ', "models/index.json is no JSON"],
    ["{}", "models/index.json is no list of models"],
    [JSON.stringify([NANO, { name: "No address" }]), "entry 1 is no model; it needs"],
  ])) {
    list = text;
    await page.reload();
    await page.getByRole("alert").getByText(says).waitFor();
    await page.getByRole("button", { name: "A penguin and a cookie" }).waitFor();
  }
  // What is right of it is offered.
  await inDrawer(page, () => page.locator("#model-choice").selectOption({ label: NANO.name }));
});
