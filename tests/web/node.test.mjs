/** The package in Node: models and pictures from the disk, on Dawn and on the CPU. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { generateText, jsonSchema, streamText } from "ai";
import { Univi, UniviError } from "univi";
import { univiModel } from "univi/ai-sdk";
import { MODELS, OUTPUT } from "./fixtures.mjs";
import { serve } from "./server.mjs";

const NANO = join(MODELS, "univi-nano");
const SAMPLES = fileURLToPath(new URL("../../www/public/samples/", import.meta.url));
const greedy = { temperature: 0 };

for (const [device, kvCache] of /** @type {const} */ ([["cpu", "f32"], ["webgpu", "f32"], ["cpu", "q8"], ["webgpu", "q8"]])) {
  test(`a model and a picture from the disk, ${device}, keys and values in ${kvCache}`, async () => {
    const univi = await Univi.create({ model: NANO, device, kvCache });
    assert.equal(univi.info.device, device);
    assert.equal(univi.info.cache.kind, "none");
    const picture = pathToFileURL(join(SAMPLES, "penguin-cookie.png"));
    assert.equal(await univi.ask([picture, "What is there from left to right?"], greedy).text(), "penguin and cookie");
    const bytes = await readFile(join(SAMPLES, "trophies-bee.png"));
    const said = await univi.chat.completions.create({
      messages: [{ role: "user", content: [{ type: "image", image: bytes }, { type: "text", text: "How many trophies are there?" }] }],
      temperature: 0,
    });
    assert.equal(said.choices[0].message.content, "2");
    univi.dispose();
  });
}

test("models come by path, by URL of a file, by one of its files, and from a server", async () => {
  const server = await serve({ "/": `${NANO}/` });
  const names = [join(NANO, "manifest.json"), pathToFileURL(`${NANO}/`), pathToFileURL(join(NANO, "manifest.json")).href, `${server.url}manifest.json`];
  for (const model of names) {
    const univi = await Univi.create({ model, device: "cpu" });
    assert.equal(await univi.ask([new URL("trophies-bee.png", pathToFileURL(SAMPLES)), "How many things are there?"], greedy).text(), "3");
    univi.dispose();
  }
  await server.close();
});

test("clips come from the disk, upright and as wide as they are shown", async () => {
  const univi = await Univi.create({ model: NANO, device: "cpu" });
  const clip = (/** @type {string} */ name) => new URL(name, pathToFileURL(SAMPLES));
  const moves = univi.ask([{ video: clip("penguin-moves.webm") }, "Which way does the penguin move?"], greedy);
  assert.equal(await moves.text(), "right");
  assert.ok((moves.seen[0]?.frames.length ?? 0) > 4);
  assert.equal(await univi.ask([{ video: clip("unicorn-cake-owl.webm") }, "What appears last?"], greedy).text(), "owl");

  // Stored lying on its side, with pixels twice as wide as they are high.
  const turned = join(OUTPUT, "turned.mp4");
  const film = promisify(execFile);
  const source = fileURLToPath(clip("train-zebra.png"));
  const [lying, narrow] = [join(OUTPUT, "lying.mp4"), "scale=192:384,setsar=2,transpose=2"];
  await film("ffmpeg", ["-y", "-loglevel", "error", "-loop", "1", "-i", source, "-t", "3", "-r", "4", "-vf", narrow, "-pix_fmt", "yuv420p", lying]);
  await film("ffmpeg", ["-y", "-loglevel", "error", "-display_rotation", "-90", "-i", lying, "-c", "copy", turned]);
  const answer = univi.ask([{ video: pathToFileURL(turned) }, "Can you see a zebra at any time?"], greedy);
  assert.equal(await answer.text(), "yes");
  const [frame] = answer.seen[0]?.frames ?? [];
  assert.deepEqual([frame?.width, frame?.height], [384, 384]);
  univi.dispose();
});

test("it is a model for the AI SDK", async () => {
  const univi = await Univi.create({ model: NANO, device: "cpu" });
  const model = univiModel(univi);
  const image = await readFile(join(SAMPLES, "penguin-cookie.png"));
  const text = "What is there from left to right?";
  /** @type {import("ai").ModelMessage[]} */
  const messages = [{ role: "user", content: [{ type: "image", image }, { type: "text", text }] }];
  const said = await generateText({ model, messages, temperature: 0 });
  assert.equal(said.text, "penguin and cookie");
  assert.equal(said.finishReason, "stop");
  messages.push({ role: "assistant", content: said.text }, { role: "user", content: text });
  const streamed = streamText({ model, messages, temperature: 0 });
  let pieces = "";
  for await (const piece of streamed.textStream) pieces += piece;
  assert.equal(pieces, "penguin and cookie");
  const { inputTokens = 0, inputTokenDetails } = await streamed.usage;
  assert.ok(inputTokenDetails.cacheReadTokens && inputTokenDetails.cacheReadTokens > inputTokens / 2, "the picture was read again");
  await assert.rejects(generateText({ model, prompt: "Hello", maxRetries: 0, tools: { look: { inputSchema: jsonSchema({ type: "object" }) } } }), /tools is not supported/);
  univi.dispose();
});

test("what is not there is told", async () => {
  const fails = async (/** @type {() => Promise<unknown>} */ work) => {
    const error = await work().then(() => undefined, (error) => error);
    assert.ok(error instanceof UniviError, `${error}`);
    return error;
  };
  assert.equal((await fails(() => Univi.create({ model: join(NANO, "nothing.json"), device: "cpu" }))).code, "io");
  const noType = await fails(() => Univi.create({ model: NANO, device: "cpu", kvCache: /** @type {any} */ ("q3") }));
  assert.equal(noType.code, "bad-request");
  assert.match(noType.message, /f32 and q8/);
  const univi = await Univi.create({ model: NANO, device: "cpu" });
  assert.equal((await fails(() => univi.ask([pathToFileURL("/nowhere.png"), "What is this?"]).text())).code, "io");
  const words = pathToFileURL(join(OUTPUT, "words.webm"));
  await writeFile(words, "just words");
  const refused = await fails(() => univi.ask([{ video: words }, "What happens?"]).text());
  assert.equal(refused.code, "bad-video");
  assert.match(refused.message, /words\.webm.*WebCodecs/);
  assert.equal((await fails(async () => univi.watch(/** @type {any} */ ({})))).code, "bad-request");
  univi.dispose();
});

test("a process that disposes of its model ends", async () => {
  const code = `
    import { Univi } from "univi";
    const univi = await Univi.create({ model: ${JSON.stringify(NANO)}, device: "cpu" });
    const picture = new URL(${JSON.stringify(pathToFileURL(join(SAMPLES, "trophies-bee.png")).href)});
    for await (const piece of univi.ask([picture, "How many things are there?"], { temperature: 0 })) process.stdout.write(piece);
    univi.dispose();`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", code], { cwd: import.meta.dirname, stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.on("data", (bytes) => (said += bytes));
  const status = await new Promise((resolve) => child.on("exit", resolve));
  assert.equal(status, 0);
  assert.equal(said, "3");
});
