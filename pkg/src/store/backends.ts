/** The storage backends, best first. */
import type { StorageBackend, StorageKind } from "./backend.js";
import { openCacheApi } from "./cache-api.js";
import { openOpfs } from "./opfs.js";

/** Opens each kind of storage backend, best first. */
export const STORAGE_BACKENDS: Record<StorageKind, () => Promise<StorageBackend>> = {
  opfs: openOpfs,
  "cache-api": openCacheApi,
};

/** What the browser said, for people. */
export function describe(error: unknown): string {
  const { name, message } = error as Error;
  if (name === "QuotaExceededError")
    return "the storage that the browser grants to this page is full";
  if (name === "SecurityError" || name === "NotAllowedError")
    return `the browser forbids it, as in a private window (${message})`;
  return message;
}
