/** Conversion of a checkpoint in this browser: several workers, each with a file at a time. */
import { UniviError } from "../error.js";
import { Meter } from "../progress.js";
import { Caller } from "../rpc.js";
import { startConversionWorker } from "../start-worker.js";
import { lock } from "../store/locks.js";
import type { WholeFile } from "../store/made.js";
import type { LoadProgress } from "../types.js";
import type { ConversionCalls, ConversionPlan, ConversionRequest } from "./calls.js";

/** More workers would want more memory than they save time: the network is slower than eight. */
const MAX_WORKERS = 8;

/** A worker that converts. */
interface Converter {
  readonly caller: Caller<ConversionCalls>;
  readonly end: () => void;
}

/**
 * Plans a conversion; nothing but what describes the checkpoint is fetched.
 *
 * Rejects with a {@link UniviError}, or with the reason of an aborted `signal`.
 */
export async function planConversion(
  request: ConversionRequest,
  signal: AbortSignal | undefined,
): Promise<ConversionPlan> {
  const converter = newConverter(request);
  try {
    return await converter.caller.call("plan", request, { signal });
  } finally {
    converter.end();
  }
}

/**
 * Converts a checkpoint into the store. Another tab that does the same is waited for. Where it is
 * aborted or fails, what was made stays, and the next call goes on from there.
 *
 * Rejects as {@link planConversion}.
 */
export async function convert(
  request: ConversionRequest,
  isDone: () => Promise<boolean>,
  onProgress: (progress: LoadProgress) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const release = await lock(`conversion-${request.key}`, signal);
  const converters: Converter[] = [];
  try {
    if (await isDone()) return;
    const first = newConverter(request);
    converters.push(first);
    const plan = await first.caller.call("plan", request, { signal });
    await first.caller.call("begin", {}, { signal });
    const files = await makeAll(request, plan, converters, onProgress, signal);
    await first.caller.call("finish", { files }, { signal });
  } finally {
    for (const converter of converters) converter.end();
    release();
  }
}

async function makeAll(
  request: ConversionRequest,
  plan: ConversionPlan,
  converters: Converter[],
  onProgress: (progress: LoadProgress) => void,
  signal: AbortSignal | undefined,
): Promise<WholeFile[]> {
  const total = sum(plan.files.map(({ fetchBytes }) => fetchBytes));
  let loaded = sum(plan.files.map(({ fetchedBytes }) => fetchedBytes));
  const meter = new Meter(onProgress);
  const made: WholeFile[] = [];
  // The longest first, or everybody waits for it in the end.
  const waiting = [...plan.files.entries()].sort(([, a], [, b]) => a.fetchBytes - b.fetchBytes);
  const work = async (converter: Converter) => {
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      const [index, { path: file }] = next;
      const onEvent = (bytes: number) => {
        loaded += bytes;
        meter.tell({ phase: "convert", loaded, total, file });
      };
      made[index] = await converter.caller.call("make", { index }, { signal, onEvent });
    }
  };
  const join = async () => {
    const converter = newConverter(request);
    converters.push(converter);
    await converter.caller.call("join", { request, known: plan.known }, { signal });
    return work(converter);
  };
  const missing = plan.files.filter(({ fetchBytes, fetchedBytes }) => fetchedBytes < fetchBytes);
  const count = Math.min(navigator.hardwareConcurrency || 2, missing.length, MAX_WORKERS);
  const others = Array.from({ length: Math.max(count - 1, 0) }, join);
  await Promise.all([work(converters[0]!), ...others]);
  return made;
}

function newConverter({ key }: ConversionRequest): Converter {
  if (typeof Worker === "undefined")
    throw new UniviError(
      "bad-request",
      `${key} is a checkpoint, which is converted in a browser or on the command line: ` +
        "univi convert",
    );
  const worker = startConversionWorker((error) => caller.break(error));
  const caller = new Caller<ConversionCalls>(worker);
  return { caller, end: () => worker.terminate() };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}
