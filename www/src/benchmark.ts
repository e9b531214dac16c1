/**
 * The benchmark of the page: the loaded model on a sample, several times, as a report that can be
 * shared.
 */
import type { Univi, Usage } from "univi";

import { size } from "./format.js";

/** After one that warms up. */
const ROUNDS = 5;
const ANSWER_TOKENS = 32;
const SAMPLE = "samples/penguin-cookie.png";
const QUESTION = "List everything from left to right.";

/** What a round took, in milliseconds; a model without vision encodes nothing. */
interface Round {
  readonly encodeMs: number;
  readonly usage: Usage;
}

/** Runs it -> the report, as Markdown. `onRound` hears how far it is. */
export async function benchmark(
  univi: Univi,
  onRound: (round: number, of: number) => void,
  signal: AbortSignal,
): Promise<string> {
  const parts = univi.info.vision
    ? [await (await fetch(SAMPLE, { signal })).blob(), QUESTION]
    : [QUESTION];
  const rounds: Round[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    onRound(round, ROUNDS);
    const began = performance.now();
    let encoded = began;
    const onProgress = ({ phase }: { phase: string }) => {
      if (phase === "answer") encoded = performance.now();
    };
    const answer = univi.ask(parts, {
      temperature: 0,
      maxTokens: ANSWER_TOKENS,
      signal,
      onProgress,
    });
    await answer.text();
    if (round > 0) rounds.push({ encodeMs: encoded - began, usage: answer.usage! });
  }
  const { gpuBytes, wasmBytes } = await univi.memory();
  const of = (value: (round: Round) => number, digits: number) =>
    median(rounds.map(value)).toFixed(digits);
  const { usage } = rounds[0]!;
  const rows = [
    ["Model", `${univi.info.name}, ${size(univi.info.bytes)}`],
    [
      "Device",
      univi.info.device === "webgpu"
        ? `WebGPU: ${univi.info.adapter}`
        : `CPU, ${navigator.hardwareConcurrency} threads`,
    ],
    ["Browser", navigator.userAgent],
    ["Prompt", `${usage.promptTokens} tokens, ${usage.visualTokens} of them visual`],
    ...(univi.info.vision
      ? [["Encoding the picture", `${of((round) => round.encodeMs, 0)} ms`]]
      : []),
    ["First token after", `${of(({ usage }) => usage.timeToFirstTokenMs, 0)} ms`],
    ["Reading", `${of(({ usage }) => usage.prefillTokensPerSecond, 1)} tokens/s`],
    ["Answering", `${of(({ usage }) => usage.tokensPerSecond, 1)} tokens/s`],
    ["Memory", `${gpuBytes > 0 ? `${size(gpuBytes)} GPU, ` : ""}${size(wasmBytes)} WebAssembly`],
  ];
  const date = new Date().toISOString().slice(0, 10);
  const table = rows.map(([name, value]) => `| ${name} | ${value} |`).join("\n");
  return `## UniVi benchmark, ${date}\n\nMedians of ${ROUNDS} rounds.\n\n| | |\n|---|---|\n${table}\n`;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}
