/**
 * What the browser keeps of models, so that the next visit loads them without the network.
 *
 * Keeping is a courtesy: nothing here rejects because the browser fails, forbids, or is full.
 * Keeping then stops, {@link Store.reason} says why, and loading goes on. Nor is anything that was
 * kept believed: whoever reads it hashes it again, and evicts what is wrong.
 */
import type { StorageBackend, StorageKind, StorageWriter } from "./store/backend.js";
import { describe, STORAGE_BACKENDS } from "./store/backends.js";
import {
  type FileKey,
  fileName,
  fileRecord,
  modelName,
  modelRecord,
  readDocument,
  removeEntry,
  removeUnneeded,
  writeDocument,
  writeRecord,
} from "./store/entries.js";
import { anyLocked, lock, locked } from "./store/locks.js";

export type { FileKey } from "./store/entries.js";

/** What is kept of a model beside its files. */
export interface ModelAbout {
  readonly name: string;
  readonly files: readonly FileKey[];
}

/**
 * What the browser keeps of models. Made by {@link openStore}; in a dedicated worker, the one place
 * that can write to OPFS.
 */
export interface Store {
  readonly kind: StorageKind | "none";
  /** Why it is not the best kind, or why keeping has stopped since, for people. */
  readonly reason: string | undefined;
  /**
   * What is kept of a file. Whoever opens it second, in whichever tab, waits until the first one
   * has finished it, or closes it.
   *
   * Rejects with the reason of an aborted `signal`, which also ends a later wait: for a complete
   * file to begin anew. Who waits for one file must go on meanwhile with the others that it has
   * open, or two tabs may wait for each other.
   */
  open(file: FileKey, signal: AbortSignal): Promise<StoredFile>;
  /**
   * Keeps a model's manifest by its URL, for when there is no network; a model without one has no
   * bytes here. Call it before its files are opened: they belong to a model from then on, and those
   * of a former manifest that no model needs any more are removed.
   */
  putDocument(url: string, bytes: Uint8Array, about: ModelAbout): Promise<void>;
  /** The manifest that was kept for a URL. Asking counts as using the model. */
  getDocument(url: string): Promise<Uint8Array | undefined>;
}

/** What is kept of one file, for one caller who awaits every call before the next. */
export interface StoredFile {
  /** Bytes kept, from the start of the file. */
  readonly size: number;
  /**
   * They are the whole file, and were verified when they came. Without SHA-256, the server may have
   * another one by now.
   */
  readonly complete: boolean;
  /**
   * The `ETag` or `Last-Modified` of their response, where it was told. With neither it nor a
   * SHA-256, half a file is of no use.
   */
  readonly validator: string | undefined;
  /**
   * What is kept, in pieces of at most some MiB. Where the browser can't read on, this ends early;
   * `size` then says how much has come, and appending goes on from there.
   */
  read(): AsyncIterable<Uint8Array>;
  /** A new response begins at byte 0: what was kept is dropped. */
  begin(validator: string | undefined): Promise<void>;
  /**
   * The next bytes, after the `size` that are kept. The caller may reuse their memory afterwards.
   */
  append(bytes: Uint8Array): Promise<void>;
  /** All bytes came and were verified. */
  finish(): Promise<void>;
  /** What is kept was wrong, so it is dropped. */
  evict(): Promise<void>;
  /** The end; what was appended stays, for the next visit. May be called again. */
  close(): Promise<void>;
}

/**
 * Opens the best store that works here: OPFS, else the Cache API, else none; or the one that was
 * chosen, else none.
 */
export async function openStore(choice: StorageKind | "auto" | "none"): Promise<Store> {
  if (choice === "none") return new BrowserStore(undefined, "it was asked that nothing be kept");
  // Deno has a Cache API, but no pages.
  if (typeof navigator === "undefined" || globalThis.isSecureContext === undefined)
    return new BrowserStore(undefined, "there is no browser that would keep them");
  if (!globalThis.isSecureContext)
    return new BrowserStore(
      undefined,
      "browsers keep nothing for a page that does not come over https",
    );
  const reasons: string[] = [];
  for (const kind of choice === "auto"
    ? (Object.keys(STORAGE_BACKENDS) as StorageKind[])
    : [choice]) {
    try {
      const backend = await STORAGE_BACKENDS[kind]();
      const probe = `probe-${crypto.randomUUID()}`; // Some browsers refuse only when it comes to writing.
      await writeDocument(backend, probe, new Uint8Array(1));
      await backend.remove(probe);
      return new BrowserStore(backend, reasons.join("; ") || undefined);
    } catch (error) {
      reasons.push(
        `${kind === "opfs" ? "OPFS" : "the Cache API"} can't be used: ${describe(error)}`,
      );
    }
  }
  return new BrowserStore(undefined, reasons.join("; "));
}

/** What is kept of these files, on any backend, and whether somebody is busy with one of them. */
export async function cachedOf(
  files: readonly FileKey[],
): Promise<{ bytes: number; complete: boolean; busy: boolean }> {
  const names = await Promise.all(files.map(fileName));
  let [bytes, complete] = [0, false];
  for (const open of Object.values(STORAGE_BACKENDS)) {
    const backend = await open().catch(() => undefined);
    if (!backend) continue;
    const found = await Promise.all(
      names.map(async (name) => ({
        size: await backend.size(name),
        record: await fileRecord(backend, name),
      })),
    );
    bytes = Math.max(
      bytes,
      found.reduce((sum, { size }) => sum + size, 0),
    );
    complete ||= found.every(
      ({ size, record }, i) =>
        size > 0 && record?.bytes === size && (files[i]!.bytes ?? size) === size,
    );
  }
  return { bytes, complete, busy: await anyLocked(names) };
}

class BrowserStore implements Store {
  readonly kind: StorageKind | "none";
  reason: string | undefined;
  /** Whether anything more is kept. */
  keeping: boolean;
  readonly #backend: StorageBackend | undefined;

  constructor(backend: StorageBackend | undefined, reason: string | undefined) {
    this.kind = backend?.kind ?? "none";
    this.reason = reason;
    this.keeping = backend !== undefined;
    this.#backend = backend;
  }

  async open(file: FileKey, signal: AbortSignal): Promise<StoredFile> {
    signal.throwIfAborted();
    if (!this.#backend) return NOTHING;
    const entry = new BackendFile(this, this.#backend, file, await fileName(file), signal);
    await entry.lockAndRead();
    return entry;
  }

  async putDocument(
    url: string,
    bytes: Uint8Array,
    { name: called, files }: ModelAbout,
  ): Promise<void> {
    const backend = this.#backend;
    if (!backend || !this.keeping) return;
    const name = await modelName(url);
    const names = await Promise.all(files.map(fileName));
    await this.attempt(() =>
      locked(name, async () => {
        const before = await modelRecord(backend, name);
        await writeDocument(backend, name, bytes);
        await writeRecord(backend, name, {
          url,
          name: called,
          usedAt: Date.now(),
          bytes: bytes.length,
          files: names,
        });
        if (before) await removeUnneeded(backend, before.files);
      }),
    );
  }

  async getDocument(url: string): Promise<Uint8Array | undefined> {
    const backend = this.#backend;
    if (!backend) return undefined;
    const name = await modelName(url);
    let bytes: Uint8Array | undefined;
    await this.attempt(() =>
      locked(name, async () => {
        const record = await modelRecord(backend, name);
        const kept = await readDocument(backend, name);
        if (!record || kept?.length !== record.bytes) return;
        bytes = kept;
        if (this.keeping) await writeRecord(backend, name, { ...record, usedAt: Date.now() });
      }),
    );
    return bytes;
  }

  /** Carries out `work`. Where the browser fails, keeping stops -> whether it went well. */
  async attempt(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (this.keeping) this.reason = `nothing more is kept: ${describe(error)}`;
      this.keeping = false;
      return false;
    }
  }
}

/** Where nothing is kept. */
const NOTHING: StoredFile = {
  size: 0,
  complete: false,
  validator: undefined,
  async *read() {},
  async begin() {},
  async append() {},
  async finish() {},
  async evict() {},
  async close() {},
};

class BackendFile implements StoredFile {
  size = 0;
  complete = false;
  validator: string | undefined;
  readonly #store: BrowserStore;
  readonly #backend: StorageBackend;
  readonly #file: FileKey;
  readonly #name: string;
  readonly #signal: AbortSignal;
  /**
   * Lets the next one in, while this one holds the file: always, but for a complete file, which is
   * only read.
   */
  #release: (() => void) | undefined;
  #writer: StorageWriter | undefined;

  constructor(
    store: BrowserStore,
    backend: StorageBackend,
    file: FileKey,
    name: string,
    signal: AbortSignal,
  ) {
    this.#store = store;
    this.#backend = backend;
    this.#file = file;
    this.#name = name;
    this.#signal = signal;
  }

  /** Waits for the file, and sees what is there. */
  async lockAndRead(): Promise<void> {
    await this.#attempt(async () => {
      const record = await fileRecord(this.#backend, this.#name);
      const size = await this.#backend.size(this.#name);
      const { sha256, bytes = size } = this.#file;
      const recognizable = record !== undefined && (sha256 ?? record.validator) !== undefined;
      if (record?.bytes === size && bytes === size) this.complete = true;
      else if (!recognizable || record.bytes !== undefined || bytes < size) return this.#drop();
      this.size = size;
      this.validator = record.validator;
    });
    if (this.complete) this.#letGo();
  }

  async *read(): AsyncIterable<Uint8Array> {
    let left = this.size;
    const pieces = this.#backend.read(this.#name)[Symbol.asyncIterator]();
    try {
      while (left > 0) {
        const { value, done } = await pieces.next().catch(() => ({ value: undefined, done: true }));
        if (done || !value) break;
        const piece = value.subarray(0, left);
        left -= piece.length;
        yield piece;
        if (left === 0) return;
      }
    } finally {
      await pieces.return?.();
    }
    if (left > 0) this.complete = false;
    this.size -= left;
  }

  async begin(validator: string | undefined): Promise<void> {
    await this.evict();
    this.validator = validator;
  }

  async append(bytes: Uint8Array): Promise<void> {
    if (!this.#store.keeping) return;
    await this.#attempt(async () => {
      this.#writer ??= await this.#write();
      await this.#writer.append(bytes);
      this.size += bytes.length;
    });
  }

  async finish(): Promise<void> {
    if (!this.#store.keeping || this.complete) return;
    await this.#attempt(async () => {
      await this.#end();
      await this.#record(this.size);
      this.complete = true;
    });
    this.#letGo();
  }

  async evict(): Promise<void> {
    await this.#attempt(() => this.#drop());
  }

  async close(): Promise<void> {
    await this.#store.attempt(() => this.#end());
    this.#letGo();
  }

  /** Carries out `work` with the file in hand. Where the browser fails, the file is closed. */
  async #attempt(work: () => Promise<void>): Promise<void> {
    this.#release ??= await lock(this.#name, this.#signal).catch(() => {
      this.#signal.throwIfAborted();
      return () => {}; // No locks here, so it has to go without.
    });
    if (!(await this.#store.attempt(work))) await this.close();
  }

  #letGo(): void {
    this.#release?.();
    this.#release = undefined;
  }

  async #write(): Promise<StorageWriter> {
    await this.#record(undefined);
    return this.#backend.write(this.#name, this.size);
  }

  async #record(bytes: number | undefined): Promise<void> {
    await writeRecord(this.#backend, this.#name, {
      url: this.#file.url,
      validator: this.validator,
      bytes,
    });
  }

  async #end(): Promise<void> {
    const writer = this.#writer;
    this.#writer = undefined;
    await writer?.end();
  }

  async #drop(): Promise<void> {
    [this.size, this.complete, this.validator] = [0, false, undefined];
    await this.#end();
    await removeEntry(this.#backend, this.#name);
  }
}
