/**
 * A worker in which tests use the store, with files whose every byte follows from where it stands.
 */

/** Bytes of a piece as a network might bring them: no power of two. */
const PIECE_BYTES = 300_007;

/**
 * @param {number} start
 * @param {number} end
 * @param {number} [version] Another one gives other bytes.
 */
function bytesAt(start, end, version = 0) {
  const bytes = new Uint8Array(end - start);
  for (let index = 0; index < bytes.length; index++) {
    const at = start + index;
    bytes[index] = (at ^ (at >>> 8) ^ ((at >>> 16) * 7)) + 31 * version;
  }
  return bytes;
}

/**
 * Appends the bytes from where the entry ends to `end`, out of memory that is used again and again.
 *
 * @param {import("../../pkg/src/store.js").StoredFile} entry
 * @param {number} end
 * @param {number} [version]
 */
async function fill(entry, end, version) {
  const memory = new Uint8Array(PIECE_BYTES);
  for (let start = entry.size; start < end; start += PIECE_BYTES) {
    const bytes = bytesAt(start, Math.min(end, start + PIECE_BYTES), version);
    memory.set(bytes);
    await entry.append(memory.subarray(0, bytes.length));
  }
}

/**
 * Reads all that is kept -> how much that is, and how much of it is right.
 *
 * @param {import("../../pkg/src/store.js").StoredFile} entry
 * @param {number} [version]
 */
async function readBack(entry, version) {
  let bytes = 0;
  let right = 0;
  let largestPiece = 0;
  for await (const piece of entry.read()) {
    const expected = bytesAt(bytes, bytes + piece.length, version);
    const wrong = piece.findIndex((byte, index) => byte !== expected[index]);
    if (right === bytes) right += wrong < 0 ? piece.length : wrong;
    bytes += piece.length;
    largestPiece = Math.max(largestPiece, piece.length);
  }
  return { bytes, right, largestPiece };
}

/**
 * Puts `bytes` into the store under `name` behind its back.
 *
 * @param {"opfs" | "cache-api"} kind
 * @param {string} name
 * @param {string} bytes
 */
async function overwrite(kind, name, bytes) {
  if (kind === "opfs") {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("univi");
    const file = await folder.getFileHandle(name, { create: true });
    // TypeScript's page library leaves out what only workers have.
    const handle = await /** @type {any} */ (file).createSyncAccessHandle();
    handle.truncate(0);
    handle.write(new TextEncoder().encode(bytes), { at: 0 });
    handle.close();
  } else {
    const headers = { "content-length": String(bytes.length) };
    await (await caches.open("univi")).put(
      `https://univi.invalid/${name}/0`,
      new Response(bytes, { headers }),
    );
  }
}

const { openStore } = await import(`${location.origin}/pkg/dist/store.js`);
const signal = new AbortController().signal;
Object.assign(globalThis, { tools: { openStore, signal, fill, readBack, overwrite, held: {} } });
postMessage("ready");
