/**
 * `univi serve --model` under load: clients that ask again and again, each from an address of its
 * own, beside one that asks ten times at once, slow and malformed ones, and ones that hang up.
 * Prints what was lost, how turns were shared, waits, and the server's memory; exits
 * with 1 where an answer was lost or wrong, or a client had less than half of the median of turns.
 *
 *     node tests/web/serve.bench.mjs [--minutes 5] [--clients 32]
 */
import { readFile } from "node:fs/promises";
import http from "node:http";
import net from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { MODELS } from "./fixtures.mjs";
import { serve } from "./server.mjs";

const { values } = parseArgs({
  options: { minutes: { type: "string" }, clients: { type: "string" } },
});
const minutes = Number(values.minutes ?? 5);
const clients = Number(values.clients ?? 32);
const SAMPLES = fileURLToPath(new URL("../../www/public/samples/", import.meta.url));
const picture = await readFile(join(SAMPLES, "penguin-cookie.png"));
const url = `data:image/png;base64,${picture.toString("base64")}`;

/** Questions about one picture, whose answers are known. */
const QUESTIONS = /** @type {const} */ ([
  ["What is there from left to right?", "penguin and cookie"],
  ["What colour is the background?", "red"],
  ["Can you see a penguin?", "yes"],
]);

const flags = ["--model", join(MODELS, "univi-nano"), "--device", "cpu", "--queue", "64"];
const server = await serve({ "/": SAMPLES }, flags);
const port = Number(new URL(server.url).port);
const ends = Date.now() + minutes * 60_000;
const isOver = () => Date.now() >= ends;

/**
 * Posts a request from an address of this machine.
 *
 * @param {string} from
 * @param {string} body
 * @returns {Promise<{ status: number | undefined, text: string }>}
 */
const post = (from, body) =>
  new Promise((resolve, reject) => {
    const options = {
      port,
      host: "127.0.0.1",
      localAddress: from,
      path: "/v1/chat/completions",
      method: "POST",
      agent: false,
    };
    const request = http.request(options, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece) => (text += piece));
      response.on("end", () => resolve({ status: response.statusCode, text }));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });

/**
 * @param {string} question
 * @param {boolean} stream
 */
const bodyOf = (question, stream) =>
  JSON.stringify({
    temperature: 0,
    max_tokens: 20,
    stream,
    messages: [
      {
        role: "user",
        content: [
          { type: "image_url", image_url: { url } },
          { type: "text", text: question },
        ],
      },
    ],
  });

/** @param {string} text Server-sent events. */
const streamed = (text) => {
  const events = text.split("\n\n").filter(Boolean);
  if (events.pop() !== "data: [DONE]") return undefined;
  const deltas = events.map((event) => JSON.parse(event.slice(6)).choices[0]?.delta.content ?? "");
  return deltas.join("");
};

/** @type {string[]} */
const lost = [];
/** Milliseconds from question to last word of those who ask one at a time. @type {number[]} */
const waits = [];
/** The address of the one who asks ten at once. */
const GREEDY = "127.0.2.1";
let answers = 0;
/** Answers before the time was over, by who asked. @type {Map<string, number>} */
const turns = new Map();

/**
 * Asks until the time is over.
 *
 * @param {string} from
 * @param {number} first
 */
async function ask(from, first) {
  for (let i = first; !isOver(); i++) {
    const [question, expected] = QUESTIONS[i % QUESTIONS.length] ?? QUESTIONS[0];
    const stream = i % 2 === 0;
    const asked = performance.now();
    try {
      const { status, text } = await post(from, bodyOf(question, stream));
      const said = stream ? streamed(text) : JSON.parse(text).choices?.[0].message.content;
      if (status !== 200 || said !== expected) lost.push(`${status}: ${text.slice(0, 200)}`);
    } catch (error) {
      lost.push(String(error));
    }
    answers += 1;
    if (from !== GREEDY) waits.push(performance.now() - asked);
    if (!isOver()) turns.set(from, (turns.get(from) ?? 0) + 1);
  }
}

const pause = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Whatever is no request, is too slow, or leaves: one after the other, for as long as it takes. */
async function disturb() {
  const head = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n";
  const begun = [
    "nonsense\r\n\r\n",
    `${head}Content-Length: 20\r\n\r\n{ "messages": "none" `,
    `${head}Content-Length: 1000000\r\n\r\n{ "mess`,
    `${head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n`,
    `${head}Content-Le`,
    `${head}Content-Length: ${bodyOf("What is this?", true).length}\r\n\r\n${bodyOf("What is this?", true)}`,
  ];
  let count = 0;
  for (let i = 0; !isOver(); i++) {
    const socket = net.connect({ port, host: "127.0.0.1", localAddress: "127.0.0.99" });
    socket.on("error", () => {}); // The server may well hang up first.
    socket.write(begun[i % begun.length] ?? "");
    await pause(50);
    // Some stay, without a further word.
    if (i % 4 !== 0 || i > 400) socket.destroy();
    else setTimeout(() => socket.destroy(), 20_000).unref();
    count += 1;
  }
  return count;
}

/** The server's resident memory in MB. */
async function memory() {
  const status = await readFile(`/proc/${server.pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
}

/** @type {number[]} */
const sizes = [];
async function watch() {
  while (!isOver()) {
    sizes.push(await memory());
    await pause(Math.min(10_000, Math.max(100, ends - Date.now())));
  }
}

const singles = Array.from({ length: clients }, (_, i) => ask(`127.0.1.${i + 1}`, i));
// It has ten places at a time, and should get no more turns than the others.
const greedy = Array.from({ length: 10 }, (_, i) => ask(GREEDY, i));
const [disturbances] = await Promise.all([disturb(), watch(), ...singles, ...greedy]);

const counts = [...turns].filter(([from]) => from !== GREEDY).map(([, count]) => count);
counts.sort((a, b) => a - b);
waits.sort((a, b) => a - b);
const at = (/** @type {number[]} */ list, /** @type {number} */ share) =>
  list[Math.min(list.length - 1, Math.floor(share * list.length))] ?? NaN;
const half = sizes.slice(Math.floor(sizes.length / 2));
const seconds = (/** @type {number} */ ms) => `${(ms / 1000).toFixed(2)} s`;
console.log(
  `${clients} clients and one with ten requests at once, ${minutes} minutes: ` +
    `${answers} answers, ${lost.length} lost`,
);
console.log(
  `turns of a client: ${counts[0]} to ${counts.at(-1)}, median ${at(counts, 0.5)}; ` +
    `of the one with ten: ${turns.get(GREEDY) ?? 0}`,
);
console.log(
  `from question to last word: median ${seconds(at(waits, 0.5))}, longest ${seconds(waits.at(-1) ?? NaN)}`,
);
console.log(
  `memory: ${Math.max(...sizes).toFixed(0)} MB at most; from half time on ` +
    `${Math.min(...half).toFixed(0)} to ${Math.max(...half).toFixed(0)} MB; ` +
    `${disturbances} connections that were no requests, slow, or left`,
);
for (const what of lost.slice(0, 10)) console.log(`lost: ${what}`);
await server.close();
const isFair = (counts[0] ?? 0) >= at(counts, 0.5) / 2;
process.exitCode = lost.length > 0 || !isFair ? 1 : 0;
