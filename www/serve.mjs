/**
 * A small static server for the page and its tests: byte ranges, cross-origin isolation, and every file as it lies on the disk,
 * since weights do not compress and their loading bar wants a length.
 */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize, sep } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";

/** @type {Record<string, string>} */
const CONTENT_TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".mjs": "text/javascript; charset=utf-8",
  ".mp4": "video/mp4",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".webm": "video/webm",
};

/**
 * Serves folders on the loopback address until it is closed.
 *
 * @param {Record<string, string>} folders What lies under which address, as in `{ "/": "www/dist", "/models/": "models" }`;
 *   addresses end with a slash, and the longest that fits wins.
 * @param {number} port 0: any free one.
 * @returns {Promise<{ url: string, close: () => Promise<void> }>} The address, with a slash at its end.
 */
export async function serve(folders, port) {
  const server = createServer((request, response) => {
    answer(folders, request, response).catch(() => response.destroy()); // The reader left in the middle of a file.
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(undefined));
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  return {
    url: `http://localhost:${address.port}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/**
 * @param {Record<string, string>} folders
 * @param {import("node:http").IncomingMessage} request
 * @param {import("node:http").ServerResponse} response
 */
async function answer(folders, request, response) {
  response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
  response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
  response.setHeader("Cache-Control", "no-cache");
  if (request.method !== "GET" && request.method !== "HEAD") return refuse(response, 405);
  const path = locate(folders, request.url ?? "/");
  if (path === undefined) return refuse(response, 404);
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile()) return refuse(response, 404);

  response.setHeader("Content-Type", CONTENT_TYPES[extname(path)] ?? "application/octet-stream");
  response.setHeader("Accept-Ranges", "bytes");
  const range = byteRange(request.headers.range, found.size);
  if (range === "unsatisfiable") {
    response.setHeader("Content-Range", `bytes */${found.size}`);
    return refuse(response, 416);
  }
  const { first, last } = range ?? { first: 0, last: found.size - 1 };
  if (range) response.setHeader("Content-Range", `bytes ${first}-${last}/${found.size}`);
  response.setHeader("Content-Length", last - first + 1);
  response.writeHead(range ? 206 : 200);
  if (request.method === "HEAD" || found.size === 0) response.end();
  else await pipeline(createReadStream(path, { start: first, end: last }), response);
}

/**
 * The file that an address names; none for what is no path or leads out of its folder.
 *
 * @param {Record<string, string>} folders
 * @param {string} url
 */
function locate(folders, url) {
  /** @type {string} */
  let path;
  try {
    path = decodeURIComponent(new URL(url, "http://localhost").pathname);
  } catch {
    return undefined;
  }
  const prefixes = Object.keys(folders).sort((a, b) => b.length - a.length);
  const prefix = prefixes.find((candidate) => path.startsWith(candidate));
  const folder = prefix === undefined ? undefined : folders[prefix];
  if (prefix === undefined || folder === undefined || path.includes("\0")) return undefined;
  const inside = normalize(path.slice(prefix.length));
  if (inside === ".." || inside.startsWith(`..${sep}`) || inside.startsWith(sep)) return undefined;
  return join(folder, path.endsWith("/") ? join(inside, "index.html") : inside);
}

/**
 * What a `Range` header asks for. Lists of ranges are answered with the whole file, as the standard allows.
 *
 * @param {string | undefined} header
 * @param {number} size
 * @returns {{ first: number, last: number } | "unsatisfiable" | undefined} Both ends inclusive.
 */
function byteRange(header, size) {
  const [, from, to] = /^bytes=(\d*)-(\d*)$/.exec(header ?? "") ?? [];
  if (from === undefined || to === undefined || (from === "" && to === "")) return undefined;
  const first = from === "" ? Math.max(0, size - Number(to)) : Number(from);
  const last = from === "" || to === "" ? size - 1 : Math.min(Number(to), size - 1);
  return first <= last ? { first, last } : "unsatisfiable";
}

/**
 * @param {import("node:http").ServerResponse} response
 * @param {number} status
 */
function refuse(response, status) {
  response.writeHead(status, { "Content-Type": "text/plain" }).end(`${status}\n`);
}

// Run as a program: serves the built page, and the models beside it.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const here = new URL(".", import.meta.url);
  const folders = { "/": fileURLToPath(new URL("dist/", here)), "/models/": fileURLToPath(new URL("../models/", here)) };
  const port = Number(process.argv[2] ?? 8000);
  try {
    const { url } = await serve(folders, port);
    console.log(`serving ${url} (Ctrl-C ends it)`);
  } catch (error) {
    console.error(`cannot serve on port ${port}: ${error instanceof Error ? error.message : error}`);
    console.error("  what to do: name a free port, as in `cargo xtask demo --port 8001`");
    process.exitCode = 1;
  }
}
