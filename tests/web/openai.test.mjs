/** `univi serve --model`, asked by the clients that people have. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, jsonSchema, streamText } from "ai";
import OpenAI from "openai";
import { MODELS } from "./fixtures.mjs";
import { serve } from "./server.mjs";

const SAMPLES = fileURLToPath(new URL("../../www/public/samples/", import.meta.url));
const greedy = { model: "univi-nano", temperature: 0 };

/** @type {Awaited<ReturnType<typeof serve>>} */
let server;
/** @type {OpenAI} */
let client;

before(async () => {
  const flags = ["--model", join(MODELS, "univi-nano"), "--device", "cpu", "--api-key", "sesame"];
  server = await serve({ "/": SAMPLES }, flags);
  client = new OpenAI({ baseURL: `${server.url}v1`, apiKey: "sesame", maxRetries: 0 });
});

after(() => server.close());

/**
 * @param {string} name
 * @param {string} text
 * @returns {Promise<OpenAI.ChatCompletionUserMessageParam>}
 */
const about = async (name, text) => {
  const bytes = await readFile(join(SAMPLES, name));
  const url = `data:image/png;base64,${bytes.toString("base64")}`;
  return {
    role: "user",
    content: [
      { type: "image_url", image_url: { url } },
      { type: "text", text },
    ],
  };
};

test("a picture, a further question as a stream, and the models", async () => {
  const question = await about("penguin-cookie.png", "Can you see a penguin?");
  const whole = await client.chat.completions.create({ ...greedy, messages: [question] });
  assert.equal(whole.choices[0]?.message.content, "yes");
  assert.equal(whole.choices[0]?.finish_reason, "stop");
  /** @type {OpenAI.ChatCompletionMessageParam[]} */
  const messages = [
    question,
    /** @type {OpenAI.ChatCompletionMessage} */ (whole.choices[0]?.message),
    { role: "user", content: "What colour is the background?" },
  ];
  const stream = await client.chat.completions.create({
    ...greedy,
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, "red");
  const cached = usage?.prompt_tokens_details?.cached_tokens ?? 0;
  assert.ok(cached >= (whole.usage?.prompt_tokens ?? Infinity) - 1, JSON.stringify(usage));
  const models = await client.models.list();
  assert.deepEqual(
    models.data.map(({ id }) => id),
    ["univi-nano"],
  );
});

test("an answer is parsed by its schema", async () => {
  const completion = await client.chat.completions.parse({
    ...greedy,
    messages: [await about("penguin-cookie.png", "Can you see a penguin?")],
    response_format: {
      type: "json_schema",
      json_schema: {
        name: "answer",
        strict: true,
        schema: {
          type: "object",
          properties: { seen: { enum: ["yes", "no"] } },
          required: ["seen"],
          additionalProperties: false,
        },
      },
    },
  });
  assert.ok(["yes", "no"].includes(JSON.parse(completion.choices[0]?.message.content ?? "").seen));
});

test("errors arrive as the package's own", async () => {
  /** @type {OpenAI.ChatCompletionMessageParam[]} */
  const messages = [{ role: "user", content: "a" }];
  await assert.rejects(
    client.chat.completions.create({ ...greedy, messages, n: 2 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "n",
  );
  await assert.rejects(
    client.chat.completions.create({ messages, model: "gpt-4" }),
    (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
  );
  const stranger = new OpenAI({ baseURL: `${server.url}v1`, apiKey: "open", maxRetries: 0 });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
});

test("a stream that is broken off ends its answer", async () => {
  const schema = { type: "array", items: { enum: [1] }, minItems: 60_000 };
  const stream = await client.chat.completions.create({
    ...greedy,
    messages: [{ role: "user", content: "a" }],
    max_tokens: 100_000,
    stream: true,
    response_format: { type: "json_schema", json_schema: { name: "ones", schema } },
  });
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
  // It is answered after the one before it, which would take long.
  const next = await client.chat.completions.create({
    ...greedy,
    messages: [{ role: "user", content: "What is this?" }],
    max_tokens: 1,
  });
  assert.equal(next.object, "chat.completion");
  const metrics = await fetch(`${server.url}metrics`, {
    headers: { authorization: "Bearer sesame" },
  });
  assert.match(await metrics.text(), /outcome="cancelled"\} 1\n/);
});

test("Vercel's AI SDK has a picture described, streams, and gets an object", async () => {
  const provider = createOpenAICompatible({
    name: "univi",
    baseURL: `${server.url}v1`,
    apiKey: "sesame",
    supportsStructuredOutputs: true,
  });
  const model = provider("univi-nano");
  const image = await readFile(join(SAMPLES, "penguin-cookie.png"));
  /** @type {(text: string) => import("ai").ModelMessage[]} */
  const ask = (text) => [
    {
      role: "user",
      content: [
        { type: "image", image },
        { type: "text", text },
      ],
    },
  ];
  const settings = { model, temperature: 0, maxRetries: 0 };
  const seen = await generateText({ ...settings, messages: ask("Can you see a penguin?") });
  assert.equal(seen.text, "yes");
  assert.equal(seen.finishReason, "stop");
  assert.ok((seen.usage.inputTokens ?? 0) > 42, JSON.stringify(seen.usage)); // With those of the picture.
  const stream = streamText({ ...settings, messages: ask("What colour is the background?") });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, "red");
  const schema = jsonSchema({
    type: "object",
    properties: { seen: { type: "string", enum: ["yes", "no"] } },
    required: ["seen"],
    additionalProperties: false,
  });
  const { object } = await generateObject({
    ...settings,
    schema,
    messages: ask("Can you see a penguin?"),
  });
  assert.ok(["yes", "no"].includes(/** @type {{ seen: string }} */ (object).seen));
});

test("OpenAI's package for Python gets the same", async () => {
  const script = fileURLToPath(new URL("openai_client.py", import.meta.url));
  const packages = fileURLToPath(new URL("../python", import.meta.url));
  const picture = join(SAMPLES, "penguin-cookie.png");
  const { stdout } = await promisify(execFile)(
    "python3",
    [script, `${server.url}v1`, "sesame", picture],
    { env: { ...process.env, PYTHONPATH: packages } },
  );
  const { parsed, ...rest } = JSON.parse(stdout);
  assert.ok(["yes", "no"].includes(parsed));
  assert.deepEqual(rest, { whole: "yes", stream: "red", refused: "n", models: ["univi-nano"] });
});

test("univi-eval asks servers side by side, and its parts hold", async () => {
  const folder = fileURLToPath(new URL("../../python/univi-eval/", import.meta.url));
  const packages = fileURLToPath(new URL("../python", import.meta.url));
  const env = { ...process.env, PYTHONPATH: `${join(folder, "src")}:${packages}` };
  const run = promisify(execFile);
  await run("python3", ["-B", "-m", "unittest", "discover", "-s", join(folder, "tests")], { env });
  const second = await serve({ "/": SAMPLES }, [
    "--model",
    join(MODELS, "univi-nano"),
    "--device",
    "cpu",
    "--api-key",
    "sesame",
  ]);
  try {
    const script = join(folder, "tests/ask_servers.py");
    const picture = join(SAMPLES, "penguin-cookie.png");
    const addresses = `${server.url}+${second.url}v1`;
    const { stdout } = await run("python3", ["-B", script, addresses, "sesame", picture], { env });
    assert.deepEqual(JSON.parse(stdout), {
      model: "univi-nano",
      answers: ["yes", "red", "yes", "red", "yes", "red", "yes", "red"],
      failed: [[8, true]],
      tokens: true,
      refused: true,
    });
  } finally {
    await second.close();
  }
});
