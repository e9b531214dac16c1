/**
 * Bytes in the origin's private file system, written through sync access handles: at the speed of
 * the disk, at any length.
 */
import type { StorageBackend, StorageWriter } from "./backend.js";

/**
 * What is lost of a file at most when all dies with it: tab, browser, machine. It costs next to
 * nothing to flush so often.
 */
const FLUSH_BYTES = 8 << 20;

/** How often, and how long apart, a file is asked for whose last owner was killed only just now. */
const OPEN_TRIES = 20;
const OPEN_PAUSE_MS = 50;

/** What TypeScript's page library leaves out, since only workers have it. */
interface SyncAccessHandle {
  getSize(): number;
  truncate(size: number): void;
  write(bytes: Uint8Array, options: { at: number }): number;
  flush(): void;
  close(): void;
}

/** OPFS, where a file can get another name. */
export interface OpfsBackend extends StorageBackend {
  /** Gives what lies under `name` the name `to`, in place of what lies there. */
  rename(name: string, to: string): Promise<void>;
}

/** Finds or makes the folder of this package. */
export async function openOpfs(): Promise<OpfsBackend> {
  if (!navigator.storage?.getDirectory) throw new Error("this browser has none");
  const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("univi", {
    create: true,
  });
  const find = (name: string): Promise<File | undefined> =>
    folder
      .getFileHandle(name)
      .then((handle) => handle.getFile())
      .catch(ifAbsent);

  const backend: OpfsBackend = {
    kind: "opfs",

    async sizes() {
      const sizes = new Map<string, number>();
      for await (const name of folder.keys()) sizes.set(name, (await find(name))?.size ?? 0);
      return sizes;
    },

    async size(name) {
      return (await find(name))?.size ?? 0;
    },

    // A `File` may be read by several tabs at once, which an access handle may not.
    async *read(name) {
      const reader = (await find(name))?.stream().getReader();
      try {
        for (let piece = await reader?.read(); piece?.value; piece = await reader?.read())
          yield piece.value;
      } finally {
        reader?.cancel().catch(() => {}); // Nothing more is wanted of it, come what may.
      }
    },

    async write(name, at) {
      const handle = await access(await folder.getFileHandle(name, { create: true }));
      try {
        if (handle.getSize() < at)
          throw new Error(`${name} has shrunk from ${at} bytes to ${handle.getSize()}`);
        // What is written anew is overwritten rather than emptied, which needs no room on a full
        // disk; `end` cuts off the rest.
        if (at > 0) handle.truncate(at);
      } catch (error) {
        handle.close();
        throw error;
      }
      return writer(handle, at);
    },

    async remove(name) {
      await folder.removeEntry(name).catch(ifAbsent);
    },

    async rename(name, to) {
      const handle = (await folder.getFileHandle(name)) as FileSystemFileHandle & {
        move?(name: string): Promise<void>;
      };
      if (handle.move) {
        await folder.removeEntry(to).catch(ifAbsent);
        return handle.move(to);
      }
      const copy = await backend.write(to, 0);
      try {
        for await (const piece of backend.read(name)) await copy.append(piece);
      } finally {
        await copy.end();
      }
      await backend.remove(name);
    },
  };
  return backend;
}

function writer(handle: SyncAccessHandle, at: number): StorageWriter {
  let flushed = at;
  return {
    append(bytes) {
      const written = handle.write(bytes, { at });
      // Where the disk is full, Chromium's private windows don't throw, but tell of 4294967288
      // bytes: the error's number, unsigned.
      if (written !== bytes.length)
        throw new DOMException(
          `${written} of ${bytes.length} bytes were written`,
          "QuotaExceededError",
        );
      at += written;
      if (at - flushed < FLUSH_BYTES) return;
      handle.flush();
      flushed = at;
    },

    async end() {
      try {
        if (handle.getSize() > at) handle.truncate(at); // Also half of a piece that did not fit.
        handle.flush();
      } finally {
        handle.close();
      }
    },
  };
}

async function access(file: FileSystemFileHandle): Promise<SyncAccessHandle> {
  const { createSyncAccessHandle } = file as FileSystemFileHandle & {
    createSyncAccessHandle?(): Promise<SyncAccessHandle>;
  };
  if (!createSyncAccessHandle) throw new Error("it has no sync access handles here");
  for (let tries = 1; ; tries++) {
    try {
      return await createSyncAccessHandle.call(file);
    } catch (error) {
      if ((error as Error).name !== "NoModificationAllowedError" || tries === OPEN_TRIES)
        throw error;
      await new Promise((resolve) => setTimeout(resolve, OPEN_PAUSE_MS));
    }
  }
}

function ifAbsent(error: Error): undefined {
  if (error.name !== "NotFoundError") throw error;
}
