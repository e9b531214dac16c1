/**
 * Conversations between visits, in the browser's own database: a record of each, and its turns.
 * Tabs share the list; a conversation is open in one tab at a time.
 */
import { createStore, delMany, entries, get, keys, set, setMany } from "idb-keyval";
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
  /** All answers, where it was asked again, and which of them is the one above. */
  readonly versions?: readonly AnswerVersion[];
  readonly chosen?: number;
}

/** One of several answers to a question. */
export type AnswerVersion = Pick<
  PastTurn,
  "answer" | "usage" | "stopped" | "model" | "modelLabel" | "readFrom"
>;

/** A turn that was answered once more: both answers are kept. */
export function withVersion(before: PastTurn, now: PastTurn): PastTurn {
  const versions = [...(before.versions ?? [versionOf(before)]), versionOf(now)];
  return { ...now, versions, chosen: versions.length - 1 };
}

/** The turn with another one of its answers. */
export function choose(turn: PastTurn, chosen: number): PastTurn {
  const version = turn.versions?.[chosen];
  return version ? { ...turn, ...version, chosen } : turn;
}

function versionOf({ answer, usage, stopped, model, modelLabel, readFrom }: PastTurn) {
  return { answer, usage, stopped, model, modelLabel, readFrom } as AnswerVersion;
}

/** A line of the list of conversations. */
export interface Conversation {
  readonly id: string;
  /** Its first question, or what a person called it. */
  readonly title: string;
  readonly usedAt: Date;
  /** It was deleted, which can be undone in the tab that did it, as long as that is open. */
  readonly deleted?: boolean;
}

// A store of another version would have another name. Keys are "ID" for the record of a
// conversation, and ["ID", turn] for its turns.
const store = createStore("univi-conversations", "conversations-1");
type Key = string | [id: string, turn: number];

const CHANGED = new BroadcastChannel("univi-conversations");
/** How long another tab, which may be about to close, is waited for. */
const PATIENCE_MS = 500;
/** How long this tab itself is, which was loaded anew: its locks go when what it was is gone. */
const OWN_PATIENCE_MS = 5000;
/** A tab that can bring a conversation back holds the lock of this name and the conversation's. */
const UNDOABLE = "univi-undoable-";
/** Which conversation this tab has open, between its visits. */
const OPEN = "univi.open-conversation";

/** A name for a conversation that begins. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Calls `changed` when another tab has changed what is kept. */
export function onOtherTabs(changed: () => void): void {
  CHANGED.addEventListener("message", changed);
}

/** The conversations that are kept, the last used first. What can't be read is none. */
export async function keptConversations(): Promise<Conversation[]> {
  const kept = await entries<Key, unknown>(store).catch(() => []);
  return kept
    .flatMap(([key, value]) => (typeof key === "string" && isConversation(value) ? [value] : []))
    .filter(({ deleted }) => !deleted)
    .sort((a, b) => b.usedAt.getTime() - a.usedAt.getTime());
}

/** What is said in each conversation, in small letters, to search in. */
export async function allWords(): Promise<ReadonlyMap<string, string>> {
  const words = new Map<string, string>();
  for (const [key, value] of await entries<Key, unknown>(store).catch(() => [])) {
    if (typeof key === "string" || !isTurn(value)) continue;
    const said = `${value.text}\n${value.answer}\n`.toLocaleLowerCase();
    words.set(key[0], (words.get(key[0]) ?? "") + said);
  }
  return words;
}

/** The turns of a conversation, as far as they can be read. */
export async function keptTurns(id: string): Promise<PastTurn[]> {
  const kept = await entries<Key, unknown>(store).catch(() => []);
  const own = kept.flatMap(([key, value]) =>
    typeof key !== "string" && key[0] === id ? [[key[1], value] as const] : [],
  );
  const turns: PastTurn[] = [];
  for (const [, turn] of own.sort(([a], [b]) => a - b)) {
    if (!isTurn(turn)) break;
    turns.push(turn);
  }
  return turns;
}

/**
 * Keeps a turn, and the conversation that it is part of. Returns why it can't be kept: there is no
 * room, or the browser refuses, as in private windows some do for pictures and clips, and some for
 * everything.
 */
export async function keepTurn(
  conversation: Conversation,
  number: number,
  turn: PastTurn,
): Promise<"full" | "refused" | undefined> {
  const { id } = conversation;
  const kept: [Key, unknown][] = [
    [[id, number], turn],
    [id, conversation],
  ];
  return setMany(kept, store).then(
    () => CHANGED.postMessage(id) as undefined,
    // WebKit gives no reason where it refuses files.
    (error: Error | null) => (error?.name === "QuotaExceededError" ? "full" : "refused"),
  );
}

/** Keeps no more than the first `turns` of a conversation. */
export async function keepOnly(id: string, turns: number): Promise<void> {
  await forget((key) => typeof key !== "string" && key[0] === id && key[1] >= turns);
}

/** Changes the record of a conversation -> what it is now; undefined where it is not kept. */
export async function change(
  id: string,
  changes: Partial<Conversation>,
): Promise<Conversation | undefined> {
  const before = await get<unknown>(id, store).catch(() => undefined);
  if (!isConversation(before)) return undefined;
  const after = { ...before, ...changes };
  await set(id, after, store).catch(() => {}); // It is what was kept that stays, then.
  CHANGED.postMessage(id);
  return after;
}

/** Deletes a conversation, so that this tab can undo it -> what undoes it. */
export async function remove(id: string): Promise<() => Promise<Conversation | undefined>> {
  const letGo = await take(`${UNDOABLE}${id}`, PATIENCE_MS); // It goes with the tab, too.
  await change(id, { deleted: true });
  return () => change(id, { deleted: false }).finally(letGo);
}

/** Forgets for good what was deleted, but for what another tab can still bring back. */
export async function forgetDeleted(): Promise<void> {
  const kept = await entries<Key, unknown>(store).catch(() => []);
  const deleted = kept.flatMap(([key, value]) =>
    typeof key === "string" && isConversation(value) && value.deleted ? [key] : [],
  );
  const forgetOne = async (id: string) => {
    const letGo = await take(`${UNDOABLE}${id}`, PATIENCE_MS);
    if (letGo) await forget((key) => id === (typeof key === "string" ? key : key[0]));
    letGo?.();
  };
  await Promise.all(deleted.map(forgetOne));
}

async function forget(which: (key: Key) => boolean): Promise<void> {
  const kept = await keys<Key>(store).catch(() => []);
  await delMany(kept.filter(which), store).catch(() => {}); // A browser that keeps nothing has nothing to forget.
}

/**
 * Takes a conversation for this tab -> what lets go of it; undefined where another tab has it. A
 * browser without locks has none to keep tabs apart by.
 */
export async function hold(id: string): Promise<(() => void) | undefined> {
  return take(`univi-conversation-${id}`, openHere() === id ? OWN_PATIENCE_MS : PATIENCE_MS);
}

/** Takes a lock -> what lets go of it; undefined where it is not to be had for so long. */
function take(name: string, patienceMs: number): Promise<(() => void) | undefined> {
  return new Promise((resolve) => {
    const callback = () => new Promise<void>((letGo) => resolve(letGo));
    if (!navigator.locks) resolve(() => {});
    navigator.locks
      ?.request(name, { signal: AbortSignal.timeout(patienceMs) }, callback)
      .catch(() => resolve(undefined));
  });
}

/** The conversation that this tab had open before it was loaded anew. */
export function openHere(): string | undefined {
  try {
    return sessionStorage.getItem(OPEN) ?? undefined;
  } catch {
    return undefined;
  }
}

/** Remembers which conversation this tab has open. */
export function setOpenHere(id: string): void {
  try {
    sessionStorage.setItem(OPEN, id);
  } catch {
    // Then the next visit waits for it no longer than for any other.
  }
}

function isConversation(value: unknown): value is Conversation {
  if (typeof value !== "object" || value === null) return false;
  const { id, title, usedAt } = value as Record<string, unknown>;
  return typeof id === "string" && typeof title === "string" && usedAt instanceof Date;
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
