/**
 * What OPFS and the Cache API have in common: bytes that lie under names, which two tabs may want
 * at once.
 *
 * | name | what lies there |
 * |---|---|
 * | `file-SHA256` | a file of that content: two models that share their vision side share it here,
 * too |
 * | `file-url-HASH` | a file whose content nobody promised, by the hash of its URL |
 * | `model-HASH` | a model's manifest, by the hash of its URL |
 * | `NAME.json` | the record of `NAME`. What has none is rubbish, so it is removed first, and tells
 * only at the end that all is there. |
 */
import { UniviError } from "../error.js";
import { openCacheApi } from "./cache-api.js";
import { openOpfs } from "./opfs.js";

/**
 * A place where the browser keeps bytes under names. Any of this rejects where the browser fails or
 * forbids it.
 */
export interface Shelf {
  readonly kind: ShelfKind;
  /** Everything that lies there, with its bytes. */
  sizes(): Promise<Map<string, number>>;
  /** Bytes that lie under `name`; 0 where there is nothing. */
  size(name: string): Promise<number>;
  /** Those bytes, in pieces of at most some MiB. */
  read(name: string): AsyncIterable<Uint8Array>;
  /** Writes on from byte `at`; what lay behind it is gone. Needs a dedicated worker. */
  write(name: string, at: number): Promise<ShelfWriter>;
  /** Removes what lies under `name`, if there is something. */
  remove(name: string): Promise<void>;
}

export type ShelfKind = "opfs" | "cache-api";

/** Writes behind what lies there. */
export interface ShelfWriter {
  /**
   * Has taken `bytes` over when it returns. Where it fails, none or some of them lie there, but
   * nothing else.
   */
  append(bytes: Uint8Array): Promise<void> | void;
  /** Brings everything to the disk, as happens now and then by itself. The writer is spent. */
  end(): Promise<void>;
}

/** The kinds of shelves, best first. */
export const SHELVES: Record<ShelfKind, () => Promise<Shelf>> = {
  opfs: openOpfs,
  "cache-api": openCacheApi,
};

/** A file, and what is known of it before it has come. */
export interface FileKey {
  readonly url: string;
  /** 64 lower-case hexadecimal digits, where somebody promised the content. */
  readonly sha256: string | undefined;
  readonly bytes: number | undefined;
}

/** What is written beside a file. */
export interface FileRecord {
  readonly url: string;
  /** Of the response that the bytes came from. */
  readonly validator?: string | undefined;
  /** The length of the file, once all of it is there and was found right. */
  readonly bytes?: number | undefined;
}

/** What is written beside a manifest. */
export interface ModelRecord {
  readonly url: string;
  readonly name: string;
  /** Milliseconds since 1970. */
  readonly usedAt: number;
  /** Length of the manifest. */
  readonly bytes: number;
  /** The names of the model's files on the shelf. */
  readonly files: readonly string[];
}

/** Longer than any manifest or record. */
const MAX_DOCUMENT_BYTES = 4 << 20;

const RECORD = ".json";

/** The name of a file on the shelf. */
export async function fileName({ url, sha256 }: FileKey): Promise<string> {
  if (sha256 === undefined) return `file-url-${await digest(url)}`;
  if (!/^[0-9a-f]{64}$/.test(sha256))
    throw new UniviError("bad-request", `${url}: "${sha256}" is no SHA-256 in hexadecimal digits`);
  return `file-${sha256}`;
}

/** The name of a manifest on the shelf. */
export async function modelName(url: string): Promise<string> {
  return `model-${await digest(url)}`;
}

/** What is there, without the records. */
export function things(sizes: Map<string, number>): string[] {
  return [
    ...new Set(
      [...sizes.keys()].map((name) =>
        name.endsWith(RECORD) ? name.slice(0, -RECORD.length) : name,
      ),
    ),
  ];
}

export function isFile(thing: string): boolean {
  return /^file-(url-)?[0-9a-f]{64}$/.test(thing);
}

/** The record of the file `name`; `undefined` where there is none that can be read. */
export async function fileRecord(shelf: Shelf, name: string): Promise<FileRecord | undefined> {
  const { url, validator, bytes } = await readRecord(shelf, name);
  const known =
    typeof url === "string" && isOptional(validator, "string") && isOptional(bytes, "number");
  return known ? ({ url, validator, bytes } as FileRecord) : undefined;
}

/** The record of the manifest `name`; `undefined` where there is none that can be read. */
export async function modelRecord(shelf: Shelf, name: string): Promise<ModelRecord | undefined> {
  const { url, name: called, usedAt, bytes, files } = await readRecord(shelf, name);
  const known =
    typeof url === "string" &&
    typeof called === "string" &&
    typeof usedAt === "number" &&
    typeof bytes === "number";
  if (
    !known ||
    !Array.isArray(files) ||
    !files.every((file) => typeof file === "string" && isFile(file))
  )
    return undefined;
  return { url, name: called, usedAt, bytes, files };
}

/** The records of all models on the shelf. */
export async function modelRecords(shelf: Shelf): Promise<ModelRecord[]> {
  const names = things(await shelf.sizes()).filter((thing) => thing.startsWith("model-"));
  const records = await Promise.all(names.map((name) => modelRecord(shelf, name)));
  return records.filter((record) => record !== undefined);
}

export async function writeRecord(
  shelf: Shelf,
  name: string,
  record: FileRecord | ModelRecord,
): Promise<void> {
  await writeDocument(shelf, name + RECORD, new TextEncoder().encode(JSON.stringify(record)));
}

export async function writeDocument(shelf: Shelf, name: string, bytes: Uint8Array): Promise<void> {
  const writer = await shelf.write(name, 0);
  try {
    await writer.append(bytes);
  } finally {
    await writer.end();
  }
}

/** A small thing as a whole; `undefined` where there is none. */
export async function readDocument(shelf: Shelf, name: string): Promise<Uint8Array | undefined> {
  const size = await shelf.size(name);
  if (size === 0 || size > MAX_DOCUMENT_BYTES) return undefined;
  const bytes = new Uint8Array(size);
  let filled = 0;
  for await (const piece of shelf.read(name)) {
    bytes.set(piece.subarray(0, size - filled), filled);
    filled = Math.min(size, filled + piece.length);
  }
  return filled === size ? bytes : undefined;
}

/** Removes a thing with its record, which goes first: a thing without one is rubbish. */
export async function removeThing(shelf: Shelf, name: string): Promise<void> {
  await shelf.remove(name + RECORD);
  await shelf.remove(name);
}

/** Removes those files of `names` that no model needs. What somebody writes just now stays. */
export async function removeUnneeded(shelf: Shelf, names: Iterable<string>): Promise<void> {
  const needed = new Set((await modelRecords(shelf)).flatMap(({ files }) => files));
  for (const name of names) {
    if (!needed.has(name)) await whereIdle(name, () => removeThing(shelf, name));
  }
}

/** Carries out `work` on the thing `name`, unless somebody is busy with it. */
export async function whereIdle(name: string, work: () => Promise<void>): Promise<void> {
  if (!navigator.locks) return work();
  await navigator.locks.request(
    lockName(name),
    { ifAvailable: true },
    async (lock) => lock && work(),
  );
}

/**
 * Waits until no other tab or worker is busy with the thing `name` -> what lets the next one in.
 *
 * Rejects with the reason of an aborted `signal`. A tab that ends lets the next one in, too.
 */
export function lock(name: string, signal?: AbortSignal): Promise<() => void> {
  return new Promise((resolve, reject) => {
    if (!navigator.locks) return resolve(() => {});
    const held = () => new Promise<void>((release) => resolve(release));
    navigator.locks.request(lockName(name), signal ? { signal } : {}, held).catch(reject);
  });
}

/** Carries out `work` as soon as nobody else is busy with the thing `name`. */
export async function locked(name: string, work: () => Promise<void>): Promise<void> {
  const release = await lock(name);
  try {
    await work();
  } finally {
    release();
  }
}

/** What the browser said, for people. */
export function describe(error: unknown): string {
  const { name, message } = error as Error;
  if (name === "QuotaExceededError")
    return "the storage that the browser grants to this page is full";
  if (name === "SecurityError" || name === "NotAllowedError")
    return `the browser forbids it, as in a private window (${message})`;
  return message;
}

/** Whether somebody is busy with one of these things. */
export async function anyLocked(names: readonly string[]): Promise<boolean> {
  const { held = [] } = (await globalThis.navigator?.locks?.query()) ?? {};
  const known = new Set(names.map(lockName));
  return held.some(({ name }) => name !== undefined && known.has(name));
}

function lockName(name: string): string {
  return `univi:${name}`;
}

async function readRecord(shelf: Shelf, name: string): Promise<Record<string, unknown>> {
  const bytes = await readDocument(shelf, name + RECORD);
  try {
    return Object(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return {}; // None, or the tab died while it was written.
  }
}

function isOptional(value: unknown, type: "string" | "number"): boolean {
  return value === undefined || typeof value === type;
}

function digest(text: string): Promise<string> {
  return sha256Of(new TextEncoder().encode(text));
}

/** SHA-256 in hexadecimal digits. */
export async function sha256Of(data: Uint8Array<ArrayBuffer>): Promise<string> {
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
