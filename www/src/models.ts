/** The models that this site offers. */

/** A line of `models/index.json`. */
export interface Offer {
  readonly name: string;
  /** Manifest or GGUF, relative to the page. */
  readonly url: string;
  /** What to know before asking it. */
  readonly note?: string;
  /** Bytes of all its files, where that is known. */
  readonly bytes?: number;
  /** What may be asked of it to begin with, in a language that it reads. */
  readonly questions?: readonly string[];
  /** Whether it was trained on photographs. */
  readonly photographs?: boolean;
}

/** Models by the names of their checkpoints that have seen nothing but emoji. */
const EMOJI_ONLY = ["univi-nano"];

/** Whether a model has seen nothing but emoji, so that what it says of a photograph is wrong. */
export function knowsOnlyEmoji(model: string): boolean {
  return EMOJI_ONLY.includes(model);
}

const LIST = "models/index.json";

/**
 * Reads `models/index.json`. Returns its offers, and what is wrong with the others; a site without
 * a list offers nothing.
 */
export async function offers(): Promise<{ readonly offers: Offer[]; readonly fault?: string }> {
  const response = await fetch(LIST).catch(() => undefined);
  if (!response?.ok || !response.headers.get("content-type")?.includes("json"))
    return { offers: [] };
  let list: unknown;
  try {
    list = await response.json();
  } catch (error) {
    return { offers: [], fault: `${LIST} is no JSON: ${(error as Error).message}` };
  }
  if (!Array.isArray(list)) return { offers: [], fault: `${LIST} is no list of models` };
  const wrong = list.findIndex((entry) => !isOffer(entry));
  const fault =
    `${LIST}: entry ${wrong} is no model; it needs "name" and "url", which are strings, and may ` +
    `have "note", a string, "bytes", a number, "questions", a list of strings, and "photographs", ` +
    `true or false`;
  return { offers: list.filter(isOffer), ...(wrong < 0 ? {} : { fault }) };
}

function isOffer(value: unknown): value is Offer {
  if (typeof value !== "object" || value === null) return false;
  const { name, url, note, bytes, photographs, questions = [] } = value as Record<string, unknown>;
  const strings =
    typeof name === "string" &&
    typeof url === "string" &&
    (note === undefined || typeof note === "string");
  const list =
    Array.isArray(questions) && questions.every((question) => typeof question === "string");
  const others =
    ["undefined", "number"].includes(typeof bytes) &&
    ["undefined", "boolean"].includes(typeof photographs);
  return strings && list && others;
}
