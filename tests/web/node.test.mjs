/** The package in Node: models and pictures from the disk, on Dawn and on the CPU. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { cp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { generateObject, generateText, jsonSchema, Output, streamText } from "ai";
import { Univi, UniviError } from "univi";
import { univiModel } from "univi/ai-sdk";
import { MODELS, OUTPUT } from "./fixtures.mjs";
import { serve } from "./server.mjs";

const NANO = join(MODELS, "univi-nano");
const SAMPLES = fileURLToPath(new URL("../../www/public/samples/", import.meta.url));
const greedy = { temperature: 0 };

for (const [device, kvCache] of /** @type {const} */ ([
  ["cpu", "f32"],
  ["webgpu", "f32"],
  ["cpu", "q8"],
  ["webgpu", "q8"],
])) {
  test(`a model and a picture from the disk, ${device}, keys and values in ${kvCache}`, async () => {
    const univi = await Univi.create({ model: NANO, device, kvCache });
    assert.equal(univi.info.device, device);
    assert.equal(univi.info.cache.kind, "none");
    const picture = pathToFileURL(join(SAMPLES, "penguin-cookie.png"));
    assert.equal(
      await univi.ask([picture, "What is there from left to right?"], greedy).text(),
      "penguin and cookie",
    );
    const bytes = await readFile(join(SAMPLES, "trophies-bee.png"));
    const said = await univi.chat.completions.create({
      messages: [
        {
          role: "user",
          content: [
            { type: "image", image: bytes },
            { type: "text", text: "How many trophies are there?" },
          ],
        },
      ],
      temperature: 0,
    });
    assert.equal(said.choices[0].message.content, "2");
    univi.dispose();
  });
}

test("models come by path, by URL of a file, by one of its files, and from a server", async () => {
  const server = await serve({ "/": `${NANO}/` });
  const names = [
    join(NANO, "manifest.json"),
    pathToFileURL(`${NANO}/`),
    pathToFileURL(join(NANO, "manifest.json")).href,
    `${server.url}manifest.json`,
  ];
  for (const model of names) {
    const univi = await Univi.create({ model, device: "cpu" });
    assert.equal(
      await univi
        .ask(
          [new URL("trophies-bee.png", pathToFileURL(SAMPLES)), "How many things are there?"],
          greedy,
        )
        .text(),
      "3",
    );
    univi.dispose();
  }
  await server.close();
});

test("a path opens the model's own files, whatever lies beside them", async () => {
  const folder = join(OUTPUT, "crowded");
  await rm(folder, { recursive: true, force: true });
  await cp(NANO, folder, { recursive: true });
  // What a folder may hold, too: a link to nowhere and one to everything, a file that nobody can
  // read, another manifest that leads out of the folder.
  await symlink(join(folder, "nowhere"), join(folder, "broken"));
  await symlink("/", join(folder, "everything"));
  await writeFile(join(folder, "secret"), "secret", { mode: 0o000 });
  await writeFile(
    join(folder, "escape.json"),
    JSON.stringify({ files: [{ path: "../../package.json" }, { path: "/etc/passwd" }] }),
  );
  for (const model of [folder, join(folder, "manifest.json")]) {
    const univi = await Univi.create({ model, device: "cpu" });
    assert.ok(univi.info.bytes > 1e6);
    univi.dispose();
  }
  const escaped = Univi.create({ model: join(folder, "escape.json"), device: "cpu" });
  await assert.rejects(escaped, { name: "UniviError", code: "bad-file" });
  await rm(folder, { recursive: true });

  // Neither a model nor all of a machine: that there is none is said at once.
  for (const model of ["/usr", OUTPUT]) {
    const begun = performance.now();
    const refused = await Univi.create({ model, device: "cpu" }).catch((error) => error);
    assert.equal(refused.code, "bad-request", refused.message);
    assert.match(refused.message, /manifest\.json/);
    assert.ok(performance.now() - begun < 5000);
  }
});

test("chat messages name no file of the disk, but those of a folder that is allowed", async () => {
  const file = (/** @type {string} */ name) => new URL(name, pathToFileURL(SAMPLES)).href;
  const ask = async (/** @type {Univi} */ univi, /** @type {any} */ part) => {
    const content = [part, { type: "text", text: "What is there from left to right?" }];
    const messages = [{ role: /** @type {const} */ ("user"), content }];
    const answer = await univi.chat.completions.create({ messages, temperature: 0 });
    return answer.choices[0].message.content;
  };
  const link = join(OUTPUT, "link.png");
  await rm(link, { force: true });
  await symlink(join(SAMPLES, "penguin-cookie.png"), link);
  const outside = [
    { type: "image_url", image_url: { url: file("penguin-cookie.png") } },
    { type: "image_url", image_url: file("penguin-cookie.png") },
    { type: "image_url", image_url: { url: "FILE:///etc/passwd" } },
    { type: "image", image: file("penguin-cookie.png") },
    { type: "image", image: join(SAMPLES, "penguin-cookie.png") },
    { type: "video", video: new URL(file("penguin-moves.webm")) },
  ];
  const strict = await Univi.create({ model: NANO, device: "cpu" });
  for (const part of outside)
    await assert.rejects(ask(strict, part), { code: "bad-request", message: /messageFiles/ });
  strict.dispose();

  const univi = await Univi.create({ model: NANO, device: "cpu", messageFiles: SAMPLES });
  assert.equal(await ask(univi, outside[0]), "penguin and cookie");
  // Nor by a detour, or by a link that leads there from elsewhere.
  for (const url of [`${file("..")}/../package.json`, pathToFileURL(join(OUTPUT, "words")).href])
    await assert.rejects(ask(univi, { type: "image_url", image_url: { url } }), {
      code: "bad-request",
    });
  univi.dispose();
  const other = await Univi.create({ model: NANO, device: "cpu", messageFiles: OUTPUT });
  const leading = { type: "image_url", image_url: { url: pathToFileURL(link).href } };
  await assert.rejects(ask(other, leading), { code: "bad-request" });
  other.dispose();
});

test("clips come from the disk, upright and as wide as they are shown", async () => {
  const univi = await Univi.create({ model: NANO, device: "cpu" });
  const clip = (/** @type {string} */ name) => new URL(name, pathToFileURL(SAMPLES));
  const moves = univi.ask(
    [{ video: clip("penguin-moves.webm") }, "Which way does the penguin move?"],
    greedy,
  );
  assert.equal(await moves.text(), "right");
  assert.ok(((await moves.tokenMaps())[0]?.frames.length ?? 0) > 4);
  assert.equal(
    await univi
      .ask([{ video: clip("unicorn-cake-owl.webm") }, "What appears last?"], greedy)
      .text(),
    "owl",
  );

  // Stored lying on its side, with pixels twice as wide as they are high.
  const turned = join(OUTPUT, "turned.mp4");
  const film = promisify(execFile);
  const source = fileURLToPath(clip("train-zebra.png"));
  const [lying, narrow] = [join(OUTPUT, "lying.mp4"), "scale=192:384,setsar=2,transpose=2"];
  await film("ffmpeg", [
    "-y",
    "-loglevel",
    "error",
    "-loop",
    "1",
    "-i",
    source,
    "-t",
    "3",
    "-r",
    "4",
    "-vf",
    narrow,
    "-pix_fmt",
    "yuv420p",
    lying,
  ]);
  await film("ffmpeg", [
    "-y",
    "-loglevel",
    "error",
    "-i",
    lying,
    "-c",
    "copy",
    "-metadata:s:v:0",
    "rotate=90",
    turned,
  ]);
  const answer = univi.ask(
    [{ video: pathToFileURL(turned) }, "Can you see a zebra at any time?"],
    greedy,
  );
  assert.equal(await answer.text(), "yes");
  const [frame] = (await answer.tokenMaps())[0]?.frames ?? [];
  assert.deepEqual([frame?.width, frame?.height], [384, 384]);
  univi.dispose();
});

test("it is a model for the AI SDK", async () => {
  const univi = await Univi.create({ model: NANO, device: "cpu" });
  const model = univiModel(univi);
  const image = await readFile(join(SAMPLES, "penguin-cookie.png"));
  const text = "What is there from left to right?";
  /** @type {import("ai").ModelMessage[]} */
  const messages = [
    {
      role: "user",
      content: [
        { type: "image", image },
        { type: "text", text },
      ],
    },
  ];
  const said = await generateText({ model, messages, temperature: 0 });
  assert.equal(said.text, "penguin and cookie");
  assert.equal(said.finishReason, "stop");
  messages.push({ role: "assistant", content: said.text }, { role: "user", content: text });
  const streamed = streamText({ model, messages, temperature: 0 });
  let pieces = "";
  for await (const piece of streamed.textStream) pieces += piece;
  assert.equal(pieces, "penguin and cookie");
  const { inputTokens = 0, inputTokenDetails } = await streamed.usage;
  assert.ok(
    inputTokenDetails.cacheReadTokens && inputTokenDetails.cacheReadTokens > inputTokens / 2,
    "the picture was read again",
  );
  await assert.rejects(
    generateText({
      model,
      prompt: "Hello",
      maxRetries: 0,
      tools: { look: { inputSchema: jsonSchema({ type: "object" }) } },
    }),
    /tools: .* is not supported/,
  );
  univi.dispose();
});

/** @type {import("ai").JSONSchema7} */
const SEEN = {
  type: "object",
  properties: {
    things: {
      type: "array",
      items: { enum: ["penguin", "cookie", "bee"] },
      minItems: 1,
      maxItems: 3,
    },
    isDay: { type: "boolean" },
  },
  required: ["things", "isDay"],
  additionalProperties: false,
};

/** @param {any} value */
function assertSeen(value) {
  assert.deepEqual(Object.keys(value), ["things", "isDay"]);
  assert.ok(value.things.length >= 1 && value.things.length <= 3, JSON.stringify(value));
  for (const thing of value.things)
    assert.ok(["penguin", "cookie", "bee"].includes(thing), JSON.stringify(value));
  assert.equal(typeof value.isDay, "boolean");
}

for (const device of /** @type {const} */ (["cpu", "webgpu"])) {
  test(`answers are held to a JSON schema, ${device}`, async () => {
    const univi = await Univi.create({ model: NANO, device });
    const picture = pathToFileURL(join(SAMPLES, "penguin-cookie.png"));
    const session = univi.session();
    await session.append([picture]);
    for (const options of [
      greedy,
      { temperature: 1, seed: 1 },
      { temperature: 1, seed: 2, repetitionPenalty: 1.2 },
    ]) {
      const seen = (await session.clone()).ask("What is there from left to right?", {
        ...options,
        jsonSchema: SEEN,
      });
      assertSeen(JSON.parse(await seen.text()));
      assert.equal(seen.usage?.finishReason, "stop");
    }
    const yes = await session
      .ask("Is there a penguin?", { ...greedy, jsonSchema: { enum: ["yes", "no"] } })
      .text();
    assert.ok(yes === '"yes"' || yes === '"no"', yes);
    const cut = session.ask("Is there a cookie?", { ...greedy, maxTokens: 2, jsonSchema: SEEN });
    await cut.text();
    assert.equal(cut.usage?.finishReason, "length");
    // The same session answers freely again.
    assert.equal(
      await univi.ask([picture, "What is there from left to right?"], greedy).text(),
      "penguin and cookie",
    );
    univi.dispose();
  });
}

test("completions and the AI SDK pass a schema on", async () => {
  const univi = await Univi.create({ model: NANO, device: "cpu" });
  const image = await readFile(join(SAMPLES, "penguin-cookie.png"));
  const text = "What is there from left to right?";
  /** @param {import("univi").ChatResponseFormat} format */
  const said = async (format) => {
    const completion = await univi.chat.completions.create({
      messages: [
        {
          role: "user",
          content: [
            { type: "image", image },
            { type: "text", text },
          ],
        },
      ],
      response_format: format,
      max_tokens: 200,
      temperature: 0,
    });
    return completion.choices[0];
  };
  assertSeen(
    JSON.parse(
      (
        await said({
          type: "json_schema",
          json_schema: { name: "seen", schema: SEEN, strict: true },
        })
      ).message.content,
    ),
  );
  const any = await said({ type: "json_object" });
  assert.ok(any.message.content.startsWith("{"));
  if (any.finish_reason === "stop") JSON.parse(any.message.content);
  assert.equal((await said({ type: "text" })).message.content, "penguin and cookie");

  const model = univiModel(univi);
  /** @type {import("ai").ModelMessage[]} */
  const messages = [
    {
      role: "user",
      content: [
        { type: "image", image },
        { type: "text", text },
      ],
    },
  ];
  const { object } = await generateObject({
    model,
    messages,
    temperature: 0,
    schema: jsonSchema(SEEN),
  });
  assertSeen(object);
  const { output } = await generateText({
    model,
    messages,
    temperature: 0,
    output: Output.choice({ options: ["penguin", "bee"] }),
  });
  assert.ok(output === "penguin" || output === "bee", output);
  univi.dispose();
});

test("a schema that can't be used is refused, and the model stays usable", async () => {
  const univi = await Univi.create({ model: NANO, device: "cpu" });
  /** @type {any} */
  const circle = {};
  circle.items = circle;
  /** @param {string} open @param {string} close */
  const deep = (open, close) => JSON.parse(`${open.repeat(31)}{}${close.repeat(31)}`);
  /** @type {[any, RegExp][]} */
  const refused = [
    [{ properties: { a: { not: {} } } }, /#\/properties\/a\/not is not supported/],
    [{ type: "colour" }, /colour/],
    [{ type: "string", pattern: "a" }, /#\/pattern is not supported/],
    [{ $ref: "#" }, /too many ways/],
    [{ type: "integer", minimum: 5, maximum: 2 }, /no integer/],
    [JSON.parse(`${"[".repeat(150)}${"]".repeat(150)}`), /can't be read as JSON/],
    [circle, /cycles/],
    [() => {}, /jsonSchema is a function, expected an object/],
    [[], /must be an object/],
    ["{", /must be an object/],
  ];
  for (const [schema, reason] of refused) {
    const error = await univi
      .ask("What is this?", { ...greedy, jsonSchema: schema })
      .text()
      .then(
        (text) => text,
        (error) => error,
      );
    assert.ok(error instanceof UniviError, `${error}`);
    assert.equal(error.code, "bad-request");
    assert.match(error.message, reason);
  }
  // As deep and as large as it gets: the stack of WebAssembly is a megabyte.
  const large = [
    deep('{"type":"array","items":', "}"),
    deep('{"type":"object","properties":{"a":', "}}"),
    deep('{"anyOf":[', "]}"),
    { enum: Array.from({ length: 6000 }, (_, i) => `e${i}`) },
    { enum: Array.from({ length: 5000 }, (_, i) => ({ a: i })) },
    { const: JSON.parse(`${"[".repeat(120)}${"]".repeat(120)}`) },
    {
      type: "object",
      properties: Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`p${i}`, {}])),
    },
    { type: "array", minItems: 65536 },
    { type: "array", items: { $ref: "#" } },
    {},
  ];
  for (const jsonSchema of large) {
    const answer = univi.ask("What is this?", { temperature: 1, maxTokens: 30, jsonSchema });
    const text = await answer.text();
    if (answer.usage?.finishReason === "stop") JSON.parse(text);
  }
  assert.equal(
    await univi.ask("What is this?", { ...greedy, jsonSchema: { const: 1 } }).text(),
    "1",
  );
  univi.dispose();
});

test("what is not there is told", async () => {
  const fails = async (/** @type {() => Promise<unknown>} */ work) => {
    const error = await work().then(
      () => undefined,
      (error) => error,
    );
    assert.ok(error instanceof UniviError, `${error}`);
    return error;
  };
  assert.equal(
    (await fails(() => Univi.create({ model: join(NANO, "nothing.json"), device: "cpu" }))).code,
    "io",
  );
  const noType = await fails(() =>
    Univi.create({ model: NANO, device: "cpu", kvCache: /** @type {any} */ ("q3") }),
  );
  assert.equal(noType.code, "bad-request");
  assert.match(noType.message, /f32 and q8/);
  const univi = await Univi.create({ model: NANO, device: "cpu" });
  assert.equal(
    (await fails(() => univi.ask([pathToFileURL("/nowhere.png"), "What is this?"]).text())).code,
    "io",
  );
  const words = pathToFileURL(join(OUTPUT, "words.webm"));
  await writeFile(words, "just words");
  const refused = await fails(() => univi.ask([{ video: words }, "What happens?"]).text());
  assert.equal(refused.code, "bad-video");
  assert.match(refused.message, /words\.webm.*WebCodecs/);
  assert.equal((await fails(async () => univi.watch(/** @type {any} */ ({})))).code, "bad-request");
  univi.dispose();
});

test("a process ends when it has its answers, and not before", async () => {
  const code = `
    import { Univi } from "univi";
    const univi = await Univi.create({ model: ${JSON.stringify(NANO)}, device: "cpu" });
    const picture = new URL(${JSON.stringify(pathToFileURL(join(SAMPLES, "trophies-bee.png")).href)});
    for await (const piece of univi.ask([picture, "How many things are there?"], { temperature: 0 })) process.stdout.write(piece);
    const video = new URL(${JSON.stringify(pathToFileURL(join(SAMPLES, "unicorn-cake-owl.webm")).href)});
    process.stdout.write(" " + (await univi.ask([{ video }, "What appears first?"], { temperature: 0 }).text()));
    univi.dispose();`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", code], {
    cwd: import.meta.dirname,
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  child.stdout.on("data", (bytes) => (said += bytes));
  const status = await new Promise((resolve) => child.on("exit", resolve));
  assert.equal(status, 0);
  assert.equal(said, "3 unicorn");
});
