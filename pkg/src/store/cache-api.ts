/**
 * Bytes in the Cache API, for browsers without a usable OPFS.
 *
 * A response in the cache can't grow, so a file is kept as responses of `PIECE_BYTES` each, and a
 * shorter last one. Hence half a file survives here, too, and no more than one piece of a file is
 * ever in memory.
 */
import type { StorageBackend } from "./backend.js";

const CACHE = "univi";

/** Memory for each file that is written, and what a killed tab loses of it at most. */
const PIECE_BYTES = 4 << 20;
const READ_BYTES = 1 << 20;

/** A host that can't exist: no page's request is ever answered from this cache by mistake. */
const HOST = "https://univi.invalid";

/** Finds or makes the cache of this package. */
export async function openCacheApi(): Promise<StorageBackend> {
  if (!globalThis.caches) throw new Error("this browser has none");
  const cache = await caches.open(CACHE);
  const key = (name: string, piece: number) => `${HOST}/${name}/${piece}`;

  /** Bytes of each piece of `name`. Only the last one may be shorter than the others. */
  const pieces = async (name: string): Promise<number[]> => {
    const lengths: number[] = [];
    for (let length = PIECE_BYTES; length === PIECE_BYTES; lengths.push(length)) {
      const response = await cache.match(key(name, lengths.length));
      if (!response) break;
      length = Number(response.headers.get("content-length"));
    }
    return lengths;
  };
  const size = async (name: string) =>
    (await pieces(name)).reduce((sum, length) => sum + length, 0);
  const load = async (name: string, piece: number) =>
    new Uint8Array((await (await cache.match(key(name, piece)))?.arrayBuffer()) ?? []);
  /**
   * Removes pieces from the last one back to `first`, so that a tab killed in between leaves a file
   * without a gap.
   */
  const cut = async (name: string, first: number) => {
    let end = first;
    while (await cache.match(key(name, end))) end++;
    while (end > first) await cache.delete(key(name, --end));
  };

  return {
    kind: "cache-api",

    async sizes() {
      const names = new Set(
        (await cache.keys()).map(({ url }) => new URL(url).pathname.split("/")[1]!),
      );
      return new Map(
        await Promise.all([...names].map(async (name) => [name, await size(name)] as const)),
      );
    },

    size,

    async *read(name) {
      for (const [piece, length] of (await pieces(name)).entries()) {
        const bytes = await load(name, piece);
        if (bytes.length !== length)
          throw new Error(
            `piece ${piece} of ${name} has ${bytes.length} bytes rather than ${length}`,
          );
        for (let start = 0; start < length; start += READ_BYTES)
          yield bytes.subarray(start, start + READ_BYTES);
      }
    },

    async write(name, at) {
      let piece = Math.floor(at / PIECE_BYTES);
      let filled = at % PIECE_BYTES;
      const begun = filled > 0 ? await load(name, piece) : new Uint8Array();
      if ((await size(name)) < at || begun.length < filled)
        throw new Error(`${name} has shrunk from ${at} bytes`);
      await cut(name, filled > 0 ? piece + 1 : piece);
      let buffer = begun.slice(0, filled); // Records are small: the memory comes with the bytes.
      const put = async () => {
        const headers = { "content-length": String(filled) };
        await cache.put(key(name, piece), new Response(buffer.subarray(0, filled), { headers }));
      };
      return {
        async append(bytes) {
          while (bytes.length > 0) {
            const taken = bytes.subarray(0, PIECE_BYTES - filled);
            buffer = reserved(buffer, filled + taken.length);
            buffer.set(taken, filled);
            filled += taken.length;
            bytes = bytes.subarray(taken.length);
            if (filled < PIECE_BYTES) continue;
            await put();
            filled = 0;
            piece += 1;
          }
        },
        async end() {
          if (filled > 0) await put();
        },
      };
    },

    remove: (name) => cut(name, 0),
  };
}

/** A buffer that holds at least `bytes`, at most `PIECE_BYTES`, and begins like `buffer`. */
function reserved(buffer: Uint8Array<ArrayBuffer>, bytes: number): Uint8Array<ArrayBuffer> {
  if (bytes <= buffer.length) return buffer;
  const larger = new Uint8Array(Math.min(PIECE_BYTES, Math.max(bytes, 2 * buffer.length)));
  larger.set(buffer);
  return larger;
}
