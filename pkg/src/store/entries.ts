/**
 * The entries of a storage backend, by name, and their records.
 *
 * | name | content |
 * |---|---|
 * | `file-SHA256` | a file of that content: two models that share their vision side share it here,
 * too |
 * | `file-url-HASH` | a file whose content nobody promised, by the hash of its URL; also one that is
 * being made here, whose SHA-256 is not known yet |
 * | `model-HASH` | a model's manifest, by the hash of its URL |
 * | `NAME.json` | the record of `NAME`. What has none is rubbish, so it is removed first, and says
 * only at the end that all is there. |
 */
import { UniviError } from "../error.js";
import { sha256Of } from "../digest.js";
import type { StorageBackend } from "./backend.js";
import { whereIdle } from "./locks.js";

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
  /** The SHA-256 of a whole file that was made here. */
  readonly sha256?: string | undefined;
  /** How much of a file that is being made here can be relied on: its first bytes. */
  readonly prefix?: FilePrefix | undefined;
}

/** The first bytes of a file. */
export interface FilePrefix {
  readonly bytes: number;
  readonly sha256: string;
}

/** What is written beside a manifest. */
export interface ModelRecord {
  readonly url: string;
  readonly name: string;
  /** Milliseconds since 1970. */
  readonly usedAt: number;
  /** Length of the manifest. */
  readonly bytes: number;
  /** The names of the model's files in a backend. */
  readonly files: readonly string[];
}

/** Longer than any manifest or record. */
const MAX_DOCUMENT_BYTES = 4 << 20;

const RECORD = ".json";

/** The name of a file in a backend. */
export async function fileName({ url, sha256 }: FileKey): Promise<string> {
  if (sha256 === undefined) return `file-url-${await digest(url)}`;
  if (!/^[0-9a-f]{64}$/.test(sha256))
    throw new UniviError("bad-request", `${url}: "${sha256}" is no SHA-256 in hexadecimal digits`);
  return `file-${sha256}`;
}

/** The name of a manifest in a backend. */
export async function modelName(url: string): Promise<string> {
  return `model-${await digest(url)}`;
}

/** The names of the entries, without their records. */
export function entryNames(sizes: Map<string, number>): string[] {
  return [
    ...new Set(
      [...sizes.keys()].map((name) =>
        name.endsWith(RECORD) ? name.slice(0, -RECORD.length) : name,
      ),
    ),
  ];
}

export function isFile(entry: string): boolean {
  return /^file-(url-)?[0-9a-f]{64}$/.test(entry);
}

/** The record of the file `name`; `undefined` where there is none that can be read. */
export async function fileRecord(
  backend: StorageBackend,
  name: string,
): Promise<FileRecord | undefined> {
  const { url, validator, bytes, sha256, prefix } = await readRecord(backend, name);
  const known =
    typeof url === "string" &&
    isOptional(validator, "string") &&
    isOptional(bytes, "number") &&
    isOptional(sha256, "string") &&
    (prefix === undefined || isPrefix(prefix));
  return known ? ({ url, validator, bytes, sha256, prefix } as FileRecord) : undefined;
}

/** The record of the manifest `name`; `undefined` where there is none that can be read. */
export async function modelRecord(
  backend: StorageBackend,
  name: string,
): Promise<ModelRecord | undefined> {
  const { url, name: called, usedAt, bytes, files } = await readRecord(backend, name);
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

/** The records of all models in a backend. */
export async function modelRecords(backend: StorageBackend): Promise<ModelRecord[]> {
  const names = entryNames(await backend.sizes()).filter((entry) => entry.startsWith("model-"));
  const records = await Promise.all(names.map((name) => modelRecord(backend, name)));
  return records.filter((record) => record !== undefined);
}

export async function writeRecord(
  backend: StorageBackend,
  name: string,
  record: FileRecord | ModelRecord,
): Promise<void> {
  await writeDocument(backend, name + RECORD, new TextEncoder().encode(JSON.stringify(record)));
}

export async function writeDocument(
  backend: StorageBackend,
  name: string,
  bytes: Uint8Array,
): Promise<void> {
  const writer = await backend.write(name, 0);
  try {
    await writer.append(bytes);
  } finally {
    await writer.end();
  }
}

/** A small entry as a whole; `undefined` where there is none. */
export async function readDocument(
  backend: StorageBackend,
  name: string,
): Promise<Uint8Array | undefined> {
  const size = await backend.size(name);
  if (size === 0 || size > MAX_DOCUMENT_BYTES) return undefined;
  const bytes = new Uint8Array(size);
  let filled = 0;
  for await (const piece of backend.read(name)) {
    bytes.set(piece.subarray(0, size - filled), filled);
    filled = Math.min(size, filled + piece.length);
  }
  return filled === size ? bytes : undefined;
}

/** Removes an entry with its record, which goes first: an entry without one is rubbish. */
export async function removeEntry(backend: StorageBackend, name: string): Promise<void> {
  await backend.remove(name + RECORD);
  await backend.remove(name);
}

/** Removes those files of `names` that no model needs. What somebody writes just now stays. */
export async function removeUnneeded(
  backend: StorageBackend,
  names: Iterable<string>,
): Promise<void> {
  const needed = new Set((await modelRecords(backend)).flatMap(({ files }) => files));
  for (const name of names) {
    if (!needed.has(name)) await whereIdle(name, () => removeEntry(backend, name));
  }
}

async function readRecord(backend: StorageBackend, name: string): Promise<Record<string, unknown>> {
  const bytes = await readDocument(backend, name + RECORD);
  try {
    return Object(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return {}; // None, or the tab died while it was written.
  }
}

function isOptional(value: unknown, type: "string" | "number"): boolean {
  return value === undefined || typeof value === type;
}

function isPrefix(value: unknown): value is FilePrefix {
  const { bytes, sha256 } = Object(value) as Record<string, unknown>;
  return typeof bytes === "number" && typeof sha256 === "string";
}

function digest(text: string): Promise<string> {
  return sha256Of(new TextEncoder().encode(text));
}
