/** The package against `univi serve --model`: in Node, and in a page of another origin. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Univi, UniviError } from "univi";
import { openPage } from "./chromium.mjs";
import { MODELS } from "./fixtures.mjs";
import { serve } from "./server.mjs";

const SAMPLES = fileURLToPath(new URL("../../www/public/samples/", import.meta.url));
const QUESTION = "What is there from left to right?";
const greedy = { temperature: 0, maxTokens: 20 };

/** @type {Awaited<ReturnType<typeof openPage>>} */
let opened;
/** @type {Awaited<ReturnType<typeof serve>>} */
let server;
/** @type {Univi} */
let univi;
/** @type {Uint8Array} */
let picture;

before(async () => {
  opened = await openPage({ webgpu: false });
  const flags = ["--model", join(MODELS, "univi-nano"), "--device", "cpu", "--api-key", "sesame"];
  server = await serve({ "/": SAMPLES }, [...flags, "--allow-origin", opened.url]);
  univi = await Univi.create({ remote: server.url, apiKey: "sesame" });
  picture = await readFile(join(SAMPLES, "penguin-cookie.png"));
});

after(async () => {
  univi?.dispose();
  await opened?.close();
  await server?.close();
});

/**
 * @param {Promise<unknown>} work
 * @param {import("univi").UniviErrorCode} code
 * @param {RegExp} says
 */
const fails = (work, code, says) =>
  assert.rejects(work, (error) => {
    assert.ok(error instanceof UniviError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, says);
    return true;
  });

test("a picture, a stream, a conversation and its usage", async () => {
  assert.equal(univi.info.name, "univi-nano");
  assert.equal(univi.info.device, "remote");
  assert.equal(univi.info.adapter, `${server.url}v1/`);
  const session = univi.session();
  const first = session.ask([picture, QUESTION], greedy);
  const pieces = [];
  for await (const piece of first) pieces.push(piece);
  assert.equal(pieces.join(""), "penguin and cookie");
  assert.ok(pieces.length > 1, "it is streamed");
  assert.equal(first.usage?.visualTokens, 42);
  assert.equal(first.usage?.finishReason, "stop");
  const fork = await session.clone();
  const further = session.ask("What colour is the background?", greedy);
  assert.equal(await further.text(), "red");
  assert.ok((further.usage?.reusedTokens ?? 0) > 42, "the server goes on with its KV cache");
  assert.ok(session.contextUsage.used > fork.contextUsage.used);
  assert.equal(session.contextUsage.capacity, univi.info.contextLength);
  await session.rewind(1);
  assert.equal(await fork.ask("What colour is the background?", greedy).text(), "red");
  const pixels = univi.ask(
    [{ image: new URL(`${server.url}penguin-cookie.png`) }, QUESTION],
    greedy,
  );
  assert.equal(await pixels.text(), "penguin and cookie");
  const jsonSchema = { enum: ["yes", "no"] };
  const held = await univi.ask([picture, "Can you see a penguin?"], { jsonSchema }).text();
  assert.ok(["yes", "no"].includes(JSON.parse(held)));
});

test("completions are those of the server", async () => {
  /** @type {import("univi").ChatCompletionRequest & { stream?: false }} */
  const request = {
    messages: [
      { role: "system", content: "Be brief." },
      {
        role: "user",
        content: [
          { type: "image", image: picture },
          { type: "text", text: QUESTION },
        ],
      },
    ],
    temperature: 0,
    logprobs: true,
    top_logprobs: 2,
  };
  const [choice] = (await univi.chat.completions.create(request)).choices;
  assert.equal(choice.message.content, "penguin and cookie");
  const url = `data:image/png;base64,${Buffer.from(picture).toString("base64")}`;
  const direct = await fetch(`${server.url}v1/chat/completions`, {
    method: "POST",
    headers: { authorization: "Bearer sesame" },
    body: JSON.stringify({
      ...request,
      messages: [
        request.messages[0],
        {
          role: "user",
          content: [
            { type: "image_url", image_url: { url } },
            { type: "text", text: QUESTION },
          ],
        },
      ],
    }),
  });
  const expected = (await direct.json()).choices[0].logprobs.content;
  assert.equal(choice.logprobs?.content.length, expected.length);
  for (const [i, { token, bytes, logprob, top_logprobs: top }] of (
    choice.logprobs?.content ?? []
  ).entries()) {
    assert.deepEqual({ token, bytes }, { token: expected[i].token, bytes: expected[i].bytes });
    // Sums of another order, where the prompt was in a KV cache.
    assert.ok(Math.abs(logprob - expected[i].logprob) < 1e-3);
    assert.equal(top.length, 2);
  }
});

test("an answer that is broken off ends at the server", async () => {
  const jsonSchema = { type: "array", items: { enum: [1] }, minItems: 60_000 };
  const controller = new AbortController();
  const { signal } = controller;
  const endless = univi.ask("a", { jsonSchema, maxTokens: 100_000, signal });
  await assert.rejects(async () => {
    for await (const _ of endless) controller.abort();
  }, /abort/i);
  assert.equal(await univi.ask([picture, QUESTION], greedy).text(), "penguin and cookie");
});

test("what the protocol does not carry is refused by name", async () => {
  const asked = () => univi.ask([picture, QUESTION], greedy);
  await fails(asked().tokenMaps(), "bad-request", /^a token map /);
  await fails(
    univi.ask([picture, QUESTION], { visualTokens: 14 }).text(),
    "bad-request",
    /^visualTokens /,
  );
  await fails(univi.session().append([picture]), "bad-request", /^append /);
  await fails(univi.memory(), "bad-request", /^memory /);
  const ask = (/** @type {import("univi").ConversationOptions} */ options) =>
    univi.session(options).ask("a", greedy).text();
  await fails(ask({ template: "v1" }), "bad-request", /^template /);
  await fails(ask({ overflow: "drop-oldest" }), "bad-request", /^overflow/);
});

test("what is wrong with a server, or an answer of it, is said", async () => {
  const create = (/** @type {object} */ options) =>
    Univi.create(/** @type {import("univi").RemoteOptions} */ ({ remote: server.url, ...options }));
  await fails(create({}), "io", /no API key/);
  await fails(create({ apiKey: "open" }), "io", /API key is wrong/);
  await fails(create({ apiKey: "sesame", model: "gpt" }), "bad-request", /"gpt".*"univi-nano"/);
  await fails(create({ device: "cpu" }), "bad-request", /no option "device"/);
  await fails(create({ remote: "ftp://127.0.0.1/" }), "bad-request", /http:\/\/ or https:\/\//);
  await fails(create({ remote: "http://127.0.0.1:9/" }), "io", /can't be reached/);
  await fails(create({ remote: `${server.url}else/` }), "bad-request", /404/);
  await fails(create({ allowedOrigins: ["https://example.org"] }), "io", /allowedOrigins/);
  const long = univi.ask("a ".repeat(9000), greedy).text();
  await fails(long, "context-overflow", /context/);
});

test("an answer that a server cut off for a reason of its own is not taken for whole", async () => {
  const chunk = { choices: [{ index: 0, delta: { content: "[1," }, finish_reason: null }] };
  const last = { choices: [{ index: 0, delta: {}, finish_reason: "content_filter" }] };
  const events = [chunk, last].map((data) => `data: ${JSON.stringify(data)}\n\n`).join("");
  const other = createServer((request, response) => {
    const isList = request.url?.endsWith("/models");
    response.setHeader("Content-Type", isList ? "application/json" : "text/event-stream");
    response.end(isList ? JSON.stringify({ data: [{ id: "a" }] }) : `${events}data: [DONE]\n\n`);
  });
  await once(other.listen(0, "127.0.0.1"), "listening");
  const address = /** @type {import("node:net").AddressInfo} */ (other.address());
  try {
    const remote = await Univi.create({ remote: `http://127.0.0.1:${address.port}/` });
    await fails(remote.ask("a", greedy).text(), "io", /"content_filter"/);
    remote.dispose();
  } finally {
    other.close();
  }
});

test("a page of an origin that is allowed gets the same, and a clip", async () => {
  const { page, url } = opened;
  const remotes = async () =>
    page.evaluate(() =>
      performance
        .getEntriesByType("resource")
        .filter(({ name }) => name.includes("/dist/remote/"))
        .map(({ name }) => name),
    );
  const said = await page.evaluate(
    async ({ remote }) => {
      const { Univi } = await import(`${location.origin}/pkg/dist/index.js`);
      const before = performance.getEntriesByType("resource").map(({ name }) => name);
      const univi = await Univi.create({ remote, apiKey: "sesame" });
      const { file } = await import(`${location.origin}/in-page.mjs`);
      const clip = await file("/samples/unicorn-cake-owl.webm", "video/webm");
      const shown = await file("/samples/penguin-cookie.png", "image/png");
      const greedy = { temperature: 0, maxTokens: 20 };
      const answer = univi.ask([{ video: clip }, "What appears first?"], greedy);
      const first = await answer.text();
      const drawn = univi.ask([await createImageBitmap(shown), "Can you see a penguin?"], greedy);
      return {
        before: before.filter((name) => name.includes("/dist/remote/")),
        first,
        seen: await drawn.text(),
        measured: await univi.measureClip({ video: clip }).catch(String),
        visualTokens: answer.usage.visualTokens,
      };
    },
    { remote: server.url },
  );
  assert.deepEqual(said.before, [], "what asks a server is fetched by those alone who do");
  assert.ok((await remotes()).length > 0);
  assert.equal(said.first, "unicorn");
  assert.equal(said.seen, "yes");
  assert.match(said.measured, /measureClip can't be had from a server/);
  assert.ok(said.visualTokens > 42, "the frames are merged as a clip");

  // Without --allow-origin a browser keeps the answer from the page.
  const flags = ["--model", join(MODELS, "univi-nano"), "--device", "cpu"];
  const closed = await serve({ "/": SAMPLES }, flags);
  try {
    const message = await page.evaluate(async (remote) => {
      const { Univi } = await import(`${location.origin}/pkg/dist/index.js`);
      const { fails } = await import(`${location.origin}/in-page.mjs`);
      return (await fails(() => Univi.create({ remote }))).message;
    }, closed.url);
    assert.ok(message.includes(`--allow-origin ${new URL(url).origin}`), message);
  } finally {
    await closed.close();
  }
});
