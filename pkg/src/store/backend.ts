/** What the storage backends have in common: bytes that are stored under names. */

/**
 * A place where the browser keeps bytes under names. Any of this rejects where the browser fails or
 * forbids it.
 */
export interface StorageBackend {
  readonly kind: StorageKind;
  /** Everything that lies there, with its bytes. */
  sizes(): Promise<Map<string, number>>;
  /** Bytes that lie under `name`; 0 where there is nothing. */
  size(name: string): Promise<number>;
  /** Those bytes, in pieces of at most some MiB. */
  read(name: string): AsyncIterable<Uint8Array>;
  /** Writes on from byte `at`; what lay behind it is gone. Needs a dedicated worker. */
  write(name: string, at: number): Promise<StorageWriter>;
  /** Removes what lies under `name`, if there is something. */
  remove(name: string): Promise<void>;
}

export type StorageKind = "opfs" | "cache-api";

/** Writes behind what lies there. */
export interface StorageWriter {
  /**
   * Has taken `bytes` over when it returns. Where it fails, none or some of them lie there, but
   * nothing else.
   */
  append(bytes: Uint8Array): Promise<void> | void;
  /** Brings everything to the disk, as happens now and then by itself. The writer is spent. */
  end(): Promise<void>;
}
