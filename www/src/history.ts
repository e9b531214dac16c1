/**
 * The conversation between visits: turn by turn in the browser's own database, and as a file to
 * take away.
 */
import { createStore, delMany, entries, keys, set } from "idb-keyval";
import type { TokenMap, Usage } from "univi";

import type { Attachment } from "./attachment.js";

/** A turn that is over. */
export interface PastTurn {
  readonly text: string;
  readonly attachments: readonly Attachment[];
  /** The token map of each, as far as they were encoded. */
  readonly tokenMaps: readonly TokenMap[];
  readonly answer: string;
  readonly usage?: Usage;
  /** Somebody stopped the answer. */
  readonly stopped: boolean;
  /** The name of the model, as its checkpoint has it. */
  readonly model: string;
  /** What the page calls it, where that is another name. */
  readonly modelLabel?: string;
  /** The first turn that the model still read; 0 where the conversation was not full. */
  readonly readFrom?: number;
  readonly askedAt: Date;
}

// Turns have numbers from 0 on. A store of another version would have another name.
const store = createStore("univi-conversation", "turns-2");

/** Another tab of this site, which has the page open already, lets go so soon when it closes. */
const PATIENCE_MS = 500;
/** Whether what is kept belongs to this tab: of several, the first one's conversation is kept. */
const owned = new Promise<boolean>((resolve) => {
  const hold = () => {
    resolve(true);
    return new Promise(() => {}); // Until the tab closes.
  };
  // Only a page that came safely has locks, and a database worth the name.
  navigator.locks
    ?.request("univi-conversation", { signal: AbortSignal.timeout(PATIENCE_MS) }, hold)
    .catch(() => resolve(false));
  if (!navigator.locks) resolve(false);
});

/** The turns of the last visit. What can't be read is no conversation. */
export async function keptTurns(): Promise<PastTurn[]> {
  if (!(await owned)) return [];
  const kept = await entries<number, unknown>(store).catch(() => []);
  const turns: PastTurn[] = [];
  for (const [, turn] of kept.sort(([a], [b]) => a - b)) {
    if (!isTurn(turn)) break;
    turns.push(turn);
  }
  return turns;
}

/**
 * Keeps turn `number`. Returns why it can't be kept: there is no room, or the browser refuses, as
 * in private windows some do for pictures and clips, and some for everything.
 */
export async function keepTurn(
  number: number,
  turn: PastTurn,
): Promise<"full" | "refused" | undefined> {
  if (!(await owned)) return undefined;
  return set(number, turn, store).then(
    () => undefined,
    (error: Error) => (error.name === "QuotaExceededError" ? "full" : "refused"),
  );
}

/** Keeps no more than the first `turns`. */
export async function keepOnly(turns: number): Promise<void> {
  if (!(await owned)) return;
  const kept = await keys<number>(store).catch(() => []);
  await delMany(
    kept.filter((number) => number >= turns),
    store,
  ).catch(() => {}); // A browser that keeps nothing has nothing to forget.
}

/**
 * The conversation as JSON: words, numbers and token maps; pictures and clips by their names.
 */
export function asJson(turns: readonly PastTurn[]): Blob {
  const plain = turns.map(({ attachments, tokenMaps, ...turn }) => ({
    ...turn,
    attachments: attachments.map((one, index) => ({
      ...described(one),
      tokenMap: tokenMaps[index],
    })),
  }));
  const groups = (_: string, value: unknown) => (value instanceof Uint32Array ? [...value] : value);
  return new Blob(
    [JSON.stringify({ format: "univi-conversation", version: 1, turns: plain }, groups, 2)],
    { type: "application/json" },
  );
}

function described(attachment: Attachment): object {
  if (attachment.kind === "live")
    return { kind: attachment.kind, timesSeconds: [...attachment.stills.keys()] };
  const { name, type, size: bytes } = attachment.file;
  return { kind: attachment.kind, name, type, bytes };
}

function isTurn(value: unknown): value is PastTurn {
  if (typeof value !== "object" || value === null) return false;
  const { text, attachments, tokenMaps, answer, askedAt } = value as Record<string, unknown>;
  const list =
    Array.isArray(attachments) &&
    attachments.every((one: Attachment) =>
      one.kind === "live" ? one.stills instanceof Map : one.file instanceof Blob,
    );
  return (
    typeof text === "string" &&
    typeof answer === "string" &&
    Array.isArray(tokenMaps) &&
    list &&
    askedAt instanceof Date
  );
}
