/** llama.cpp natively, on one thread -> one line of JSON. */
import { readFile } from "node:fs/promises";
import { getLlama } from "node-llama-cpp";

const [gguf, prompts] = process.argv.slice(2);
if (!gguf || !prompts) throw new Error("usage: node llama-cpp.mjs MODEL.gguf prompts.json");
const ANSWER = 65;

const llama = await getLlama({ gpu: false, build: "never", maxThreads: 1, logLevel: "error" });
const model = await llama.loadModel({ modelPath: gguf, gpuLayers: 0 });
const context = await model.createContext({ contextSize: 1024, threads: 1 });
const tokens = JSON.parse(await readFile(prompts, "utf8"))["256"].ids;
const rounds = [];
// The first one is not counted.
for (let round = 0; round < 4; round++) {
  const sequence = context.getSequence();
  const began = performance.now();
  const times = [];
  for await (const _ of sequence.evaluate(tokens, { temperature: 0 })) {
    times.push(performance.now());
    if (times.length === ANSWER) break;
  }
  sequence.dispose();
  rounds.push({
    prefill: tokens.length / ((times[0] - began) / 1000),
    decode: (ANSWER - 1) / ((times.at(-1) - times[0]) / 1000),
  });
}
const median = (name) =>
  rounds
    .slice(1)
    .map((round) => round[name])
    .sort((a, b) => a - b)[1];
console.log(JSON.stringify({ prefill: median("prefill"), decode: median("decode") }));
process.exit(0);
