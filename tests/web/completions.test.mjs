/** OpenAI's shapes as other people's code sends them, in Node on the CPU. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { generateText } from "ai";
import { Univi } from "univi";
import { univiModel } from "univi/ai-sdk";
import { MODELS } from "./fixtures.mjs";

/** @type {Univi} */
let univi;
/** @type {Uint8Array} */
let image;
before(async () => {
  univi = await Univi.create({ model: join(MODELS, "univi-nano"), device: "cpu" });
  const sample = new URL("../../www/public/samples/penguin-cookie.png", import.meta.url);
  image = await readFile(fileURLToPath(sample));
});
after(() => univi.dispose());

const QUESTION = "What is there from left to right?";
const BACKGROUND = "What colour is the background?";
const user = (/** @type {unknown} */ content) => ({ role: "user", content });
const assistant = (/** @type {unknown} */ content) => ({ role: "assistant", content });
const words = (/** @type {string} */ text) => ({ type: "text", text });
const shown = () => ({ type: "image", image });

/** @param {Record<string, unknown>} request */
const complete = async (request) => {
  const fields = /** @type {any} */ ({ temperature: 0, max_tokens: 20, ...request });
  return /** @type {import("univi").ChatCompletion} */ (
    /** @type {unknown} */ (await univi.chat.completions.create(fields))
  );
};
/** @param {unknown[]} messages */
const answer = async (messages) => (await complete({ messages })).choices[0].message.content;

test("neighbours of one role are one turn, and no order of roles is refused", async () => {
  const control = await complete({ messages: [user([shown(), words(QUESTION)])] });
  assert.equal(control.choices[0].message.content, "penguin and cookie");
  const parted = await complete({ messages: [user([shown()]), user(QUESTION)] });
  assert.equal(parted.choices[0].message.content, "penguin and cookie");
  assert.equal(parted.usage.prompt_tokens, control.usage.prompt_tokens);

  const greeting = await complete({
    messages: [assistant("Hello!"), user([shown(), words(QUESTION)])],
  });
  assert.ok(greeting.usage.prompt_tokens > control.usage.prompt_tokens, "the greeting is read");
  assert.equal(
    await answer([
      user([shown(), words(QUESTION)]),
      assistant([words("penguin"), words("and cookie")]),
      assistant(null),
      user(BACKGROUND),
    ]),
    "red",
  );
});

test("instructions are read wherever they stand, under both of their names", async () => {
  const asked = user([shown(), words(QUESTION)]);
  const counts = [];
  for (const messages of [
    [asked],
    [{ role: "system", content: "Be brief." }, asked],
    [{ role: "developer", content: [words("Be brief.")] }, asked],
    [asked, assistant("penguin and cookie"), user(BACKGROUND)],
    [
      asked,
      assistant("penguin and cookie"),
      { role: "system", content: "Be brief." },
      user(BACKGROUND),
    ],
  ])
    counts.push((await complete({ messages, max_tokens: 1 })).usage.prompt_tokens);
  const [plain, system, developer, second, between] = /** @type {number[]} */ (counts);
  assert.ok(Number(system) > Number(plain));
  assert.equal(developer, system);
  assert.ok(Number(between) > Number(second));
});

test("null stands for a field that is left out, and so do values that ask for what happens anyway", async () => {
  const messages = [{ ...user([shown(), words(QUESTION)]), name: null }];
  for (const field of [
    "model",
    "n",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "stream",
    "stream_options",
    "response_format",
    "tools",
    "logit_bias",
    "anything",
  ])
    await complete({ messages, [field]: null });
  const said = await complete({
    messages,
    model: "gpt-4o",
    n: 1,
    tools: [],
    tool_choice: "auto",
    frequency_penalty: 0,
    presence_penalty: 0,
    logit_bias: {},
    logprobs: false,
    user: "somebody",
    top_k: 1,
    min_p: 0.1,
    repetition_penalty: 1,
  });
  assert.equal(said.choices[0].message.content, "penguin and cookie");
});

test("what has no effect is refused by its name", async () => {
  const messages = [user("What is this?")];
  for (const [field, value] of Object.entries({
    n: 2,
    tools: [{ type: "function" }],
    tool_choice: "required",
    functions: [{ name: "f" }],
    frequency_penalty: 2,
    presence_penalty: -1,
    logit_bias: { 5: 100 },
    modalities: ["text", "audio"],
    reasoning_effort: "high",
    maxTokens: 3,
  }))
    await assert.rejects(complete({ messages, [field]: value }), (/** @type {any} */ error) => {
      assert.equal(error.code, "bad-request");
      assert.ok(error.message.startsWith(`${field}: `), error.message);
      return true;
    });
  for (const [fields, says] of /** @type {const} */ ([
    [{ stream: true, stream_options: { every: 1 } }, /^stream_options\.every: 1 /],
    [{ stream_options: { include_usage: true } }, /add stream: true/],
    [{ top_logprobs: 3 }, /needs logprobs: true/],
    [{ logprobs: true, top_logprobs: 21 }, /top_logprobs is 21/],
    [{ logprobs: 1 }, /logprobs is 1/],
  ]))
    await assert.rejects(complete({ messages, ...fields }), (/** @type {any} */ error) => {
      assert.equal(error.code, "bad-request");
      assert.match(error.message, says);
      return true;
    });
});

test("tokens come with their log-probabilities, whole and streamed", async () => {
  const messages = [user([shown(), words(QUESTION)])];
  const request = { messages, logprobs: true, top_logprobs: 20 };
  const [choice] = (await complete(request)).choices;
  const tokens = choice.logprobs?.content ?? [];
  const bytes = Uint8Array.from(tokens.flatMap((token) => [...token.bytes]));
  assert.equal(new TextDecoder().decode(bytes), choice.message.content);
  for (const { token, logprob, top_logprobs: top } of tokens) {
    assert.equal(top.length, 20);
    assert.deepEqual([top[0]?.token, top[0]?.logprob], [token, logprob]);
    const all = top.reduce((sum, other) => sum + Math.exp(other.logprob), 0);
    assert.ok(all > 0.5 && all < 1.0001, `${all}`);
  }
  /** @type {(typeof tokens)[number][]} */
  const streamed = [];
  const chunks = /** @type {AsyncIterable<import("univi").ChatCompletionChunk>} */ (
    /** @type {unknown} */ (await complete({ ...request, stream: true }))
  );
  for await (const { choices } of chunks) streamed.push(...(choices[0]?.logprobs?.content ?? []));
  assert.deepEqual(
    streamed.map(({ token }) => token),
    tokens.map(({ token }) => token),
  );
  // Sums of another order, as the prompt was in the KV cache.
  for (const [i, { logprob }] of streamed.entries())
    assert.ok(Math.abs(logprob - (tokens[i]?.logprob ?? 0)) < 1e-3);
  const plain = await complete({ messages, logprobs: true });
  assert.deepEqual(
    plain.choices[0].logprobs?.content.map((token) => token.top_logprobs.length),
    tokens.map(() => 0),
  );
});

test("errors name the place in the request", async () => {
  const system = { role: "system", content: "Be brief." };
  const hi = user("hi");
  const nested = (/** @type {unknown} */ part) => [
    system,
    hi,
    assistant("hi"),
    user([words("a"), part]),
  ];
  for (const [messages, expected] of /** @type {[unknown, string][]} */ ([
    [[], "messages must be a list"],
    [null, "messages must be a list"],
    ["hi", "messages must be a list"],
    [[hi, null], "messages[1] is no message"],
    [
      [hi, system, { role: "tool", content: "4", tool_call_id: "a" }],
      'messages[2] is of role "tool"',
    ],
    [[system, { role: "owl", content: "a" }], 'messages[1] is of role "owl"'],
    [[system, hi, user(null)], "messages[2].content is missing"],
    [[system, user(3)], "messages[1].content is neither"],
    [[hi, { ...assistant(null), tool_calls: [{}] }], "messages[1].tool_calls is not supported"],
    [[{ ...hi, name: "Ann" }], "messages[0].name is not supported"],
    [nested({ type: "input_audio" }), 'messages[3].content[1] is of type "input_audio"'],
    [nested({ type: "text" }), "messages[3].content[1] has no text"],
    [nested({ type: "image_url", image_url: {} }), "messages[3].content[1].image_url has no url"],
    [
      nested({ type: "image_url", image_url: { url: "http://" } }),
      "messages[3].content[1].image_url",
    ],
    [
      nested({ type: "image_url", image_url: { url: "data:,", detail: "high" } }),
      "messages[3].content[1].image_url.detail",
    ],
    [[system, assistant([shown()]), hi], "messages[1].content[0] is of type"],
    [[system], "the last message is not the user's"],
    [[hi, assistant("hi")], "the last message is not the user's"],
    [[system, assistant("hi")], "the last message is not the user's"],
  ]))
    await assert.rejects(complete({ messages }), (/** @type {any} */ error) => {
      assert.equal(error.code, "bad-request", error.message);
      assert.ok(error.message.startsWith(expected), `${error.message} / ${expected}`);
      return true;
    });
});

test("a picture's URL may stand alone", async () => {
  const url = `data:image/png;base64,${Buffer.from(image).toString("base64")}`;
  assert.equal(
    await answer([user([{ type: "image_url", image_url: url }, words(QUESTION)])]),
    "penguin and cookie",
  );
});

test("the AI SDK's topK reaches the model", async () => {
  const { text, warnings } = await generateText({
    model: univiModel(univi),
    messages: [
      {
        role: "user",
        content: [
          { type: "image", image },
          { type: "text", text: QUESTION },
        ],
      },
    ],
    // So hot that all tokens would be alike; of one, the best is left.
    temperature: 100,
    topK: 1,
    maxOutputTokens: 20,
  });
  assert.equal(text, "penguin and cookie");
  assert.deepEqual(warnings ?? [], []);
});
