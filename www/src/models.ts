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
}

/** Reads `models/index.json`; a site without one offers nothing. */
export async function offers(): Promise<Offer[]> {
  const response = await fetch("models/index.json").catch(() => undefined);
  if (!response?.ok || !response.headers.get("content-type")?.includes("json")) return [];
  const list: unknown = await response.json();
  return Array.isArray(list) ? list.filter(isOffer) : [];
}

function isOffer(value: unknown): value is Offer {
  if (typeof value !== "object" || value === null) return false;
  const { name, url, note, bytes, questions = [] } = value as Record<string, unknown>;
  const strings =
    typeof name === "string" &&
    typeof url === "string" &&
    (note === undefined || typeof note === "string");
  const list =
    Array.isArray(questions) && questions.every((question) => typeof question === "string");
  return strings && list && (bytes === undefined || typeof bytes === "number");
}
