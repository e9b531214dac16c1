/** Hosts of models and pages on origins of their own, with the faults that real ones have. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { MODELS } from "./fixtures.mjs";

/** The small model, which a host has unless it is given another folder. */
export const NANO = join(MODELS, "univi-nano");

/** What a browser must be told of scripts and pages; the rest it takes as it comes. */
const TYPES = /** @type {Record<string, string>} */ ({
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
});

/** @type {Set<{ close: () => Promise<void> }>} */
const open = new Set();

/** Closes all hosts that are open: Node waits for them, also after a test that failed. */
export async function closeHosts() {
  await Promise.all([...open].map((host) => host.close()));
}

/**
 * What a host does with a request: nothing, which serves the file, another file, or an answer of
 * its own.
 *
 * @typedef {(request: import("node:http").IncomingMessage, url: URL) => { status?: number,
 * headers?: Record<string, string>, body?: string | Buffer, path?: string, break?: number,
 * bend?: (bytes: Buffer) => Buffer } | undefined} Hook
 */

/**
 * Serves a folder on an origin of its own.
 *
 * @param {object} [how]
 * @param {string} [how.folder]
 * @param {Record<string, string>} [how.cors] The headers for other origins.
 * @param {boolean} [how.preflight] Whether it answers `OPTIONS`.
 * @param {boolean} [how.packs] Whether it packs, as it says in a header that it does not expose.
 * @param {Hook} [how.hook]
 */
export async function host({
  folder = NANO,
  cors = { "Access-Control-Allow-Origin": "*" },
  preflight = true,
  packs = false,
  hook,
} = {}) {
  /** @type {{ method: string, path: string, range: string | undefined, headers: any }[]} */
  const requests = [];
  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? "/", "http://host");
    const { range } = request.headers;
    requests.push({
      method: request.method ?? "",
      path: url.pathname + url.search,
      range,
      headers: request.headers,
    });
    if (request.method === "OPTIONS" && !preflight) return response.writeHead(403, {}).end();
    if (request.method === "OPTIONS") return response.writeHead(204, cors).end();
    const own = hook?.(request, url);
    if (own && !own.path && own.break === undefined)
      return response.writeHead(own.status ?? 200, { ...cors, ...own.headers }).end(own.body);
    try {
      const path = decodeURIComponent(own?.path ?? url.pathname).replace(/\/$/, "/index.html");
      const bytes = await readFile(join(folder, path));
      const etag = `"${createHash("sha1").update(bytes).digest("hex")}"`;
      const from = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
      const packed = packs && from === 0;
      const sent = own?.bend?.(bytes) ?? bytes;
      const body = packed ? gzipSync(sent) : sent.subarray(from);
      response.writeHead(from > 0 ? 206 : 200, {
        ...cors,
        ETag: etag,
        "Content-Type": TYPES[extname(path)] ?? "application/octet-stream",
        "Content-Length": String(body.length),
        ...(packed ? { "Content-Encoding": "gzip" } : {}),
        ...(from > 0
          ? { "Content-Range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` }
          : {}),
        ...own?.headers,
      });
      if (own?.break === undefined) response.end(body);
      else {
        response.write(body.subarray(0, own.break));
        setTimeout(() => response.destroy(), 500); // Once it has arrived.
      }
    } catch {
      response.writeHead(404, cors).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  const opened = {
    url: `http://localhost:${port}/`,
    requests,
    close: async () => {
      if (!open.delete(opened)) return;
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  open.add(opened);
  return opened;
}
