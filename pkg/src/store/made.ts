/**
 * Files that are made here rather than fetched: nobody knows their SHA-256 before they are whole.
 *
 * A file in the making lies under the hash of its URL. Its record says how many of its first bytes
 * can be relied on, and their SHA-256: what a tab that was closed, or a machine that went down,
 * left behind them is written anew. Unlike a cache, this rejects where the browser fails: without
 * room for its result there is no point in going on.
 */
import { UniviError } from "../error.js";
import type { StorageWriter } from "./backend.js";
import { describe } from "./backends.js";
import {
  fileName,
  type FilePrefix,
  fileRecord,
  modelName,
  modelRecord,
  removeEntry,
  writeDocument,
  writeRecord,
} from "./entries.js";
import { lock } from "./locks.js";
import { type OpfsBackend, openOpfs } from "./opfs.js";

const SHA256 = /^[0-9a-f]{64}$/;

/** A file that is whole. */
export interface WholeFile {
  readonly bytes: number;
  readonly sha256: string;
}

/**
 * Opens OPFS to make files in it.
 *
 * @throws UniviError `io` where this browser has none, or forbids writing to it.
 */
export async function openForMaking(): Promise<OpfsBackend> {
  try {
    const backend = await openOpfs();
    const probe = `probe-${crypto.randomUUID()}`; // Some browsers refuse only when it comes to writing.
    await writeDocument(backend, probe, new Uint8Array(1));
    await backend.remove(probe);
    return backend;
  } catch (cause) {
    throw unwritable(cause);
  }
}

/** Returns how much of the file for `url` was made: all of it, some of its first bytes, or none. */
export async function madeSoFar(
  backend: OpfsBackend,
  url: string,
): Promise<WholeFile | { readonly bytes: number; readonly sha256: undefined }> {
  const name = await unnamed(url);
  const { bytes, sha256, prefix } = (await fileRecord(backend, name)) ?? {};
  if (bytes === undefined || sha256 === undefined || !SHA256.test(sha256))
    return { bytes: prefix?.bytes ?? 0, sha256: undefined };
  const places = [name, await fileName({ url, sha256, bytes })];
  const sizes = await Promise.all(places.map((place) => backend.size(place)));
  return sizes.includes(bytes) ? { bytes, sha256 } : { bytes: 0, sha256: undefined };
}

/** Returns whether a file that an earlier manifest names is there, and was made for `url`. */
export async function isMadeFor(
  backend: OpfsBackend,
  url: string,
  { bytes, sha256 }: WholeFile,
): Promise<boolean> {
  const name = await fileName({ url, sha256, bytes });
  const record = await fileRecord(backend, name);
  return record?.url === url && record.bytes === bytes && (await backend.size(name)) === bytes;
}

/**
 * Notes that the files for `urls` belong to the model `key`, so that they are listed and removed
 * with it. What it had before stays until it is whole.
 */
export async function beginModel(
  backend: OpfsBackend,
  key: string,
  name: string,
  urls: readonly string[],
): Promise<void> {
  try {
    const model = await modelName(key);
    const before = await modelRecord(backend, model);
    const names = await Promise.all(urls.map(unnamed));
    const files = [...new Set([...(before?.files ?? []), ...names])];
    const bytes = before?.bytes ?? 0;
    await writeRecord(backend, model, { url: key, name, usedAt: Date.now(), bytes, files });
  } catch (cause) {
    throw unwritable(cause);
  }
}

/** Gives a file that is whole the name of its content: a model's manifest finds it there. */
export async function nameByContent(
  backend: OpfsBackend,
  url: string,
  { bytes, sha256 }: WholeFile,
): Promise<void> {
  const [from, to] = [await unnamed(url), await fileName({ url, sha256, bytes })];
  try {
    const isThere = (await backend.size(to)) === bytes; // Of another model, perhaps.
    if (!isThere && (await backend.size(from)) === bytes) await backend.rename(from, to);
    if ((await backend.size(to)) !== bytes)
      throw new Error(`${url} was removed while the others were made`);
    await writeRecord(backend, to, { url, bytes });
  } catch (cause) {
    throw unwritable(cause);
  }
}

/** A file in the making, for one caller who awaits every call before the next. */
export class MadeFile {
  readonly #backend: OpfsBackend;
  readonly #url: string;
  readonly #name: string;
  readonly #release: () => void;
  #writer: StorageWriter | undefined;
  #prefix: FilePrefix | undefined;
  #size = 0;

  private constructor(
    backend: OpfsBackend,
    url: string,
    name: string,
    prefix: FilePrefix | undefined,
    release: () => void,
  ) {
    this.#backend = backend;
    this.#url = url;
    this.#name = name;
    this.#prefix = prefix;
    this.#release = release;
  }

  /** Opens the file for `url`; another tab or worker that makes it is waited for. */
  static async open(backend: OpfsBackend, url: string, signal: AbortSignal): Promise<MadeFile> {
    const name = await unnamed(url);
    const release = await lock(name, signal);
    try {
      const { prefix, bytes } = (await fileRecord(backend, name)) ?? {};
      const isThere =
        prefix !== undefined && bytes === undefined && (await backend.size(name)) >= prefix.bytes;
      return new MadeFile(backend, url, name, isThere ? prefix : undefined, release);
    } catch (cause) {
      release();
      throw unwritable(cause);
    }
  }

  /** Bytes that were written. */
  get size(): number {
    return this.#size;
  }

  /** The first bytes, which an earlier visit has left; they count once {@link resume} is called. */
  get prefix(): FilePrefix | undefined {
    return this.#prefix;
  }

  /** Those bytes. */
  async *readPrefix(): AsyncGenerator<Uint8Array, void> {
    let left = this.#prefix?.bytes ?? 0;
    if (left === 0) return;
    for await (const piece of this.#backend.read(this.#name)) {
      yield piece.subarray(0, left);
      left -= Math.min(left, piece.length);
      if (left === 0) return;
    }
  }

  /** Goes on behind the first bytes. */
  resume(): void {
    this.#size = this.#prefix?.bytes ?? 0;
  }

  /** Begins at byte 0. */
  async restart(): Promise<void> {
    await this.#attempt(async () => {
      await this.#end();
      await removeEntry(this.#backend, this.#name);
      this.#prefix = undefined;
      this.#size = 0;
      await writeRecord(this.#backend, this.#name, { url: this.#url });
    });
  }

  /** Writes the next bytes. */
  async append(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return;
    await this.#attempt(async () => {
      this.#writer ??= await this.#backend.write(this.#name, this.#size);
      await this.#writer.append(bytes);
      this.#size += bytes.length;
    });
  }

  /** Notes that all bytes so far, which have this SHA-256, can be relied on. */
  async checkpoint(sha256: string): Promise<void> {
    await this.#attempt(async () => {
      await this.#end();
      this.#prefix = { bytes: this.#size, sha256 };
      await writeRecord(this.#backend, this.#name, { url: this.#url, prefix: this.#prefix });
    });
  }

  /** Notes that the file is whole and has this SHA-256. */
  async finish(sha256: string): Promise<void> {
    await this.#attempt(async () => {
      await this.#end();
      await writeRecord(this.#backend, this.#name, { url: this.#url, bytes: this.#size, sha256 });
    });
  }

  /** The end; what can be relied on stays, for the next visit. May be called again. */
  async close(): Promise<void> {
    await this.#end().catch(() => {});
    this.#release();
  }

  async #end(): Promise<void> {
    const writer = this.#writer;
    this.#writer = undefined;
    await writer?.end();
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      throw unwritable(cause);
    }
  }
}

/** The name of a file whose SHA-256 is not known yet. */
function unnamed(url: string): Promise<string> {
  return fileName({ url, sha256: undefined, bytes: undefined });
}

function unwritable(cause: unknown): UniviError {
  return new UniviError(
    "io",
    `the converted model can't be written to this browser's private storage (OPFS): ` +
      `${describe(cause)}; open the page in an ordinary window of a browser that has OPFS, with ` +
      "room for the model, or convert it with the command line",
    { cause },
  );
}
