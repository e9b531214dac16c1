/**
 * Options as users pass them: copied when they come, so that reactive or frozen objects do as well
 * as plain ones, and refused where they are not known.
 */
import { UniviError } from "./error.js";

/** Checks the value of an option and copies it; `name` is what errors call it. */
export type Check<T> = (value: unknown, name: string) => T;

/** The options that a function knows, each with its check. */
export type Checks<T> = { readonly [K in keyof T]-?: Check<Exclude<T[K], undefined>> };

/**
 * Copies `options`. What is `null` or `undefined` counts as absent.
 *
 * @throws UniviError `bad-request` that names an option that is not known, or has a wrong value.
 */
export function copyOptions<T extends object>(
  options: unknown,
  checks: Checks<T>,
  owner: string,
): T {
  if (options === undefined || options === null) return {} as T;
  if (typeof options !== "object") throw wrong(`the options of ${owner}`, "an object", options);
  const copy: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null) continue;
    const check = (checks as Record<string, Check<unknown>>)[name];
    if (!check || !Object.hasOwn(checks, name))
      throw new UniviError("bad-request", unknown(name, Object.keys(checks), owner));
    copy[name] = check(value, name);
  }
  return copy as T;
}

function unknown(name: string, known: readonly string[], owner: string): string {
  const plain = (text: string) => text.toLowerCase().replace(/[^a-z]/g, "");
  const meant = known.find((other) => plain(other) === plain(name)) ?? SYNONYMS[plain(name)];
  const remedy =
    meant !== undefined && known.includes(meant)
      ? `did you mean "${meant}"?`
      : `it has ${known.join(", ")}`;
  return `${owner} has no option "${name}"; ${remedy}`;
}

/** Options by their names in other libraries. */
const SYNONYMS: Readonly<Record<string, string>> = {
  maxcompletiontokens: "maxTokens",
  maxnewtokens: "maxTokens",
  maxoutputtokens: "maxTokens",
  abortsignal: "signal",
  fps: "frameRate",
  history: "messages",
  repeatpenalty: "repetitionPenalty",
  responseformat: "jsonSchema",
  schema: "jsonSchema",
  stopsequences: "stop",
  systemprompt: "system",
};

/** Returns the error for a value that is not what is expected. */
export function wrong(name: string, expected: string, value: unknown): UniviError {
  return new UniviError("bad-request", `${name} is ${shown(value)}, expected ${expected}`);
}

function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 60));
  if (typeof value === "object" && value !== null)
    return Array.isArray(value) ? "a list" : "an object";
  if (typeof value === "function") return "a function";
  if (typeof value === "bigint") return `the BigInt ${value}n`.slice(0, 40);
  return String(value);
}

/** Any number; ranges are checked where it is used. */
export const number: Check<number> = (value, name) => {
  if (typeof value !== "number" || Number.isNaN(value)) throw wrong(name, "a number", value);
  return value;
};

export const string: Check<string> = (value, name) => {
  if (typeof value !== "string") throw wrong(name, "a string", value);
  return value;
};

export const boolean: Check<boolean> = (value, name) => {
  if (typeof value !== "boolean") throw wrong(name, "true or false", value);
  return value;
};

/** One of these strings. */
export function oneOf<T extends string>(...choices: readonly T[]): Check<T> {
  return (value, name) => {
    if (!choices.includes(value as T))
      throw wrong(name, choices.map((choice) => JSON.stringify(choice)).join(" or "), value);
    return value as T;
  };
}

/** A list of strings. */
export const strings: Check<readonly string[]> = (value, name) => {
  if (typeof value === "string" || !isIterable(value))
    throw wrong(name, "a list of strings", value);
  return [...value].map((text, i) => string(text, `${name}[${i}]`));
};

/** A function of this type, whose arguments are not checked. */
export function callback<T extends (...args: never[]) => void>(): Check<T> {
  return (value, name) => {
    if (typeof value !== "function") throw wrong(name, "a function", value);
    return value as T;
  };
}

/** A signal that can be waited for, which a proxy of one can't. */
export const signal: Check<AbortSignal> = (value, name) => {
  try {
    return AbortSignal.any([value as AbortSignal]);
  } catch {
    throw wrong(name, "an AbortSignal, not a proxy of one", value);
  }
};

/** Plain data of JSON, such as a schema. */
export const json: Check<object> = (value, name) => {
  try {
    const text: string | undefined = JSON.stringify(value);
    if (text === undefined) throw wrong(name, "an object", value);
    return JSON.parse(text) as object;
  } catch (cause) {
    if (cause instanceof UniviError) throw cause;
    throw new UniviError(
      "bad-request",
      `${name} can't be written as JSON; it must be plain data, without cycles and not too deep`,
      { cause },
    );
  }
};

/** Returns whether a value can be looped over. */
export function isIterable(value: unknown): value is Iterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.iterator in value;
}
