/**
 * Checks what a call brings before it goes on into WebAssembly, where a value of another kind, such
 * as a BigInt, is no error but a trap.
 */
import type { Calls, Method, SentPart } from "./calls.js";
import { type Check, string, strings, wrong } from "./options.js";
import type { Handlers } from "./rpc.js";

const MOST = 2 ** 32 - 1;

const whole: Check<number> = (value, name) => {
  if (!Number.isInteger(value) || Number(value) < 0 || Number(value) > MOST)
    throw wrong(name, `a whole number from 0 to ${MOST}`, value);
  return value as number;
};
const finite: Check<number> = (value, name) => {
  if (!Number.isFinite(value)) throw wrong(name, "a finite number", value);
  return value as number;
};
const seconds: Check<number> = (value, name) => {
  if (!Number.isFinite(value) || Number(value) < 0)
    throw wrong(name, "a finite number of seconds, 0 or more", value);
  return value as number;
};
const rgba: Check<Uint8ClampedArray | Uint8Array> = (value, name) => {
  if (value instanceof Uint8ClampedArray || value instanceof Uint8Array) return value;
  throw wrong(name, "a Uint8ClampedArray or Uint8Array", value);
};

const FRAME_CHOICE = {
  startSeconds: seconds,
  endSeconds: seconds,
  frameRate: finite,
  maxFrames: whole,
};
const SESSION = { system: string, template: string, overflow: string };
const PIXELS = { width: whole, height: whole, rgba: rgba };

/** The parameters of each method that reach WebAssembly, by name; those of objects by theirs. */
type Parameters = { readonly [name: string]: Check<unknown> | Parameters };
const PARAMETERS: {
  readonly [M in Method]?: Parameters & { readonly [P in keyof Calls[M]["params"]]?: unknown };
} = {
  load: { device: string, contextLength: whole, kvCache: string },
  availability: { device: string, contextLength: whole, kvCache: string },
  encodeImage: { visualTokens: whole, image: { name: string, ...PIXELS } },
  frameTimes: { timing: { lastSeconds: finite, endSeconds: seconds }, choice: FRAME_CHOICE },
  clipTokens: { frames: whole, visualTokens: whole },
  pushAnimation: { name: string, choice: FRAME_CHOICE },
  pushFrame: { timeSeconds: finite, frame: PIXELS },
  encodeClip: { visualTokens: whole },
  encodeFrame: { timeSeconds: finite, windowSeconds: finite, visualTokens: whole },
  mergeFrames: { visualTokens: whole },
  openSession: { options: SESSION },
  restart: { options: SESSION },
  rewind: { keep: whole },
  answer: {
    options: {
      maxTokens: whole,
      temperature: finite,
      topK: whole,
      topP: finite,
      minP: finite,
      repetitionPenalty: finite,
      seed: whole,
      stop: strings,
      jsonSchema: string,
      logprobs: whole,
    },
  },
};

/** Returns handlers that check their parameters before anything else. */
export function checked(handlers: Handlers<Calls>): Handlers<Calls> {
  const checking = Object.entries(handlers).map(([method, handler]) => [
    method,
    async (params: never, context: never) => {
      checkArguments(method as Method, params);
      return handler(params, context);
    },
  ]);
  return Object.fromEntries(checking);
}

/**
 * Throws `bad-request` for the first parameter of a call that is not of its kind; `undefined` and
 * `null` stand for a default everywhere.
 */
function checkArguments<M extends Method>(method: M, params: Calls[M]["params"]): void {
  checkAll(PARAMETERS[method] ?? {}, params);
  const { parts = [], turns = [] } = params as Partial<Calls["answer" | "restart"]["params"]> & {
    readonly parts?: readonly SentPart[];
    readonly turns?: Calls["restart"]["params"]["turns"];
  };
  for (const { answer } of turns) string(answer, "the answer of an earlier turn");
  for (const part of [...parts, ...turns.flatMap((turn) => turn.parts)])
    if (typeof part !== "object") string(part, "a part");
}

function checkAll(parameters: Parameters, values: object): void {
  for (const [name, check] of Object.entries(parameters)) {
    const value: unknown = Reflect.get(values, name);
    if (value === undefined || value === null) continue;
    if (typeof check === "function") check(value, name);
    else if (typeof value === "object") checkAll(check, value);
  }
}
