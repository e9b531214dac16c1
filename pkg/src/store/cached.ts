/** What a page sees of the models that the browser keeps, and how it gets rid of them. */
import { UniviError } from "../error.js";
import type { StorageBackend } from "./backend.js";
import { describe, STORAGE_BACKENDS } from "./backends.js";
import {
  entryNames,
  fileRecord,
  isFile,
  modelName,
  modelRecord,
  modelRecords,
  removeEntry,
  removeUnneeded,
} from "./entries.js";
import { whereIdle } from "./locks.js";

/** A model that the browser keeps, whole or in part. */
export interface CachedModel {
  /** Where it was loaded from; `hf:OWNER/NAME?quantization=TYPE` for what was converted here. */
  readonly url: string;
  readonly name: string;
  /** Bytes that are kept of its files. What two models share counts for each of them. */
  readonly bytes: number;
  /** All of its files are there, so that loading it needs no network. */
  readonly complete: boolean;
  /** When it was last loaded; `undefined` for a file that belongs to no model. */
  readonly usedAt: Date | undefined;
}

/** What the browser's storage holds for this origin, and may hold. */
export interface StorageEstimate {
  readonly usedBytes: number;
  readonly quotaBytes: number;
}

/**
 * Returns the models that this browser keeps for this origin, the one used last first. Files that
 * belong to no model any more come behind them, each by its own URL, or by its name in the store
 * where that was lost.
 *
 * @example
 * ```ts
 * const models = await cachedModels();
 * list.append(...models.map(({ name, bytes }) => `${name}: ${Math.round(bytes / 1e6)} MB`));
 * await deleteCachedModel(models[0].url);
 * ```
 */
export async function cachedModels(): Promise<CachedModel[]> {
  const found: CachedModel[] = [];
  await onBackends(async (backend) => {
    const sizes = await backend.sizes();
    const names = entryNames(sizes).filter(isFile);
    const entries = names.map(async (name) => [name, await fileRecord(backend, name)] as const);
    const records = new Map(await Promise.all(entries));
    const about = (files: readonly string[]) => ({
      bytes: files.reduce((sum, name) => sum + (sizes.get(name) ?? 0), 0),
      complete: files.every((name) => records.get(name)?.bytes === (sizes.get(name) ?? 0)),
    });
    const models = await modelRecords(backend);
    const needed = new Set(models.flatMap(({ files }) => files));
    for (const { url, name, usedAt, files } of models)
      found.push({ url, name, usedAt: new Date(usedAt), ...about(files) });
    for (const name of names.filter((name) => !needed.has(name))) {
      const url = records.get(name)?.url ?? name;
      found.push({ url, name: url.split("/").at(-1)!, usedAt: undefined, ...about([name]) });
    }
  });
  return found.sort((a, b) => Number(b.usedAt ?? 0) - Number(a.usedAt ?? 0));
}

/** Returns whether a model is kept whole, with its manifest, so that it loads without a request. */
export async function isKept(url: string): Promise<boolean> {
  for (const open of Object.values(STORAGE_BACKENDS)) {
    const backend = await open().catch(() => undefined);
    const record = backend && (await modelRecord(backend, await modelName(url)));
    if (!backend || !record || record.bytes === 0) continue;
    const whole = await Promise.all(
      record.files.map(async (name) => {
        const bytes = (await fileRecord(backend, name))?.bytes;
        return bytes !== undefined && bytes === (await backend.size(name));
      }),
    );
    if (whole.every(Boolean)) return true;
  }
  return false;
}

/**
 * Removes a model, or a file that belongs to none, by the `url` that {@link cachedModels} tells.
 * Files that another model needs stay; so does what is being downloaded just now.
 */
export async function deleteCachedModel(url: string): Promise<void> {
  await onBackends(async (backend) => {
    const model = await modelName(url);
    const files = [...((await modelRecord(backend, model))?.files ?? [])];
    for (const name of entryNames(await backend.sizes()).filter(isFile)) {
      if (name === url || (await fileRecord(backend, name))?.url === url) files.push(name);
    }
    await whereIdle(model, () => removeEntry(backend, model));
    await removeUnneeded(backend, files);
  });
}

/**
 * Removes everything that this browser keeps of models, but for what is being downloaded just now.
 */
export async function clearCache(): Promise<void> {
  await onBackends(async (backend) => {
    for (const name of entryNames(await backend.sizes()))
      await whereIdle(name, () => removeEntry(backend, name));
  });
}

/**
 * Asks the browser not to drop what is kept when space runs short. Returns whether it promised.
 * Some browsers ask the user, so ask once a model was loaded that is worth keeping. Only a page can
 * ask, a worker can't.
 */
export async function persistCache(): Promise<boolean> {
  return (await navigator.storage?.persist?.().catch(() => false)) ?? false;
}

/**
 * Returns what the browser's storage holds and may hold; `undefined` where the browser does not
 * say.
 *
 * It is a hint: browsers blur both, so that nobody is recognized by them, and may refuse earlier or
 * later.
 */
export async function storageEstimate(): Promise<StorageEstimate | undefined> {
  const { usage, quota } = (await navigator.storage?.estimate?.().catch(() => undefined)) ?? {};
  return usage === undefined || quota === undefined
    ? undefined
    : { usedBytes: usage, quotaBytes: quota };
}

/**
 * Carries out `work` on all backends that this browser has: the best one need not have been the
 * best one always.
 */
async function onBackends(work: (backend: StorageBackend) => Promise<void>): Promise<void> {
  for (const open of Object.values(STORAGE_BACKENDS)) {
    const backend = await open().catch(() => undefined);
    if (!backend) continue;
    try {
      await work(backend);
    } catch (cause) {
      throw new UniviError(
        "io",
        `the models that the browser keeps can't be reached: ${describe(cause)}`,
        { cause },
      );
    }
  }
}
