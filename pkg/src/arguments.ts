/**
 * Checks what a call brings before it goes on into WebAssembly, where a value of another kind, such
 * as a BigInt, is no error but a trap.
 */
import type { Calls, Method, SentPart } from "./calls.js";
import { UniviError } from "./error.js";

/** What a value must be; `undefined` and `null` stand for a default everywhere. */
interface Kind {
  readonly expected: string;
  readonly fits: (value: unknown) => boolean;
}

const MOST = 2 ** 32 - 1;

const WHOLE: Kind = {
  expected: `a whole number from 0 to ${MOST}`,
  fits: (value) => Number.isInteger(value) && Number(value) >= 0 && Number(value) <= MOST,
};
const NUMBER: Kind = { expected: "a finite number", fits: (value) => Number.isFinite(value) };
const SECONDS: Kind = {
  expected: "a finite number of seconds, 0 or more",
  fits: (value) => Number.isFinite(value) && Number(value) >= 0,
};
const TEXT: Kind = { expected: "a string", fits: (value) => typeof value === "string" };
const TEXTS: Kind = {
  expected: "an array of strings",
  fits: (value) => Array.isArray(value) && value.every(TEXT.fits),
};
const RGBA: Kind = {
  expected: "a Uint8ClampedArray or Uint8Array",
  fits: (value) => value instanceof Uint8ClampedArray || value instanceof Uint8Array,
};

const FRAME_CHOICE = {
  startSeconds: SECONDS,
  endSeconds: SECONDS,
  frameRate: NUMBER,
  maxFrames: WHOLE,
};
const SESSION = { system: TEXT, template: TEXT, overflow: TEXT };
const PIXELS = { width: WHOLE, height: WHOLE, rgba: RGBA };

/** The parameters of each method that reach WebAssembly, by name; those of objects by theirs. */
type Kinds = { readonly [name: string]: Kind | Kinds };
const KINDS: {
  readonly [M in Method]?: Kinds & { readonly [P in keyof Calls[M]["params"]]?: unknown };
} = {
  load: { device: TEXT, contextLength: WHOLE, kvCache: TEXT },
  availability: { device: TEXT, contextLength: WHOLE, kvCache: TEXT },
  encodeImage: { visualTokens: WHOLE, image: { name: TEXT, ...PIXELS } },
  frameTimes: { timing: { lastSeconds: NUMBER, endSeconds: SECONDS }, choice: FRAME_CHOICE },
  pushAnimation: { name: TEXT, choice: FRAME_CHOICE },
  pushFrame: { timeSeconds: NUMBER, frame: PIXELS },
  encodeClip: { visualTokens: WHOLE },
  encodeFrame: { timeSeconds: NUMBER, windowSeconds: NUMBER, visualTokens: WHOLE },
  mergeFrames: { visualTokens: WHOLE },
  openSession: { options: SESSION },
  restart: { options: SESSION },
  rewind: { keep: WHOLE },
  answer: {
    options: {
      maxTokens: WHOLE,
      temperature: NUMBER,
      topK: WHOLE,
      topP: NUMBER,
      minP: NUMBER,
      repetitionPenalty: NUMBER,
      seed: WHOLE,
      stop: TEXTS,
      jsonSchema: TEXT,
    },
  },
};

/** Throws `bad-request` for the first parameter of a call that is not of its kind. */
export function checkArguments<M extends Method>(method: M, params: Calls[M]["params"]): void {
  checkAll(KINDS[method] ?? {}, params);
  const { parts = [], turns = [] } = params as Partial<Calls["answer" | "restart"]["params"]> & {
    readonly parts?: readonly SentPart[];
    readonly turns?: Calls["restart"]["params"]["turns"];
  };
  for (const { answer } of turns) check("the answer of an earlier turn", TEXT, answer);
  for (const part of [...parts, ...turns.flatMap((turn) => turn.parts)])
    if (typeof part !== "object") check("a part", TEXT, part);
}

function checkAll(kinds: Kinds, values: object): void {
  for (const [name, kind] of Object.entries(kinds)) {
    const value: unknown = Reflect.get(values, name);
    if (value === undefined || value === null) continue;
    if (isKind(kind)) check(name, kind, value);
    else if (typeof value === "object" && value !== null) checkAll(kind, value);
  }
}

function isKind(kind: Kind | Kinds): kind is Kind {
  return typeof kind.fits === "function";
}

function check(name: string, { expected, fits }: Kind, value: unknown): void {
  if (!fits(value))
    throw new UniviError("bad-request", `${name} is ${described(value)}, expected ${expected}`);
}

/** A value as people write it, in a few words. */
function described(value: unknown): string {
  if (typeof value === "bigint") return `the BigInt ${value}n`.slice(0, 40);
  if (typeof value === "string") return `the string ${JSON.stringify(value.slice(0, 20))}`;
  if (typeof value === "number" || typeof value === "boolean") return `${value}`;
  return Array.isArray(value) ? "an array" : `of type ${typeof value}`;
}
