/**
 * The bytes of a file that a server has, through all that servers and networks do. What to do when
 * is decided by `Transfer`.
 */
import type { bindings } from "../wasm/univi_web.js";
import { shortAddress } from "./address.js";
import { UniviError } from "./error.js";
import { type Network, request, Unanswered } from "./network.js";

/** A server that sends nothing for so long is taken for one that has gone. */
const STALL_MS = 20_000;

/**
 * What comes of a file: bytes that go on where the last ended, or word that the file begins anew,
 * in another version.
 */
export type Piece =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | { readonly kind: "begins"; readonly validator: string | undefined };

/** Why an answer broke off, if it is worth another try. */
class Broken extends Error {}

/**
 * Fetches what `transfer` still lacks of `url`.
 *
 * Throws what `transfer` makes of failures that don't pass, or the reason of an aborted `signal`.
 */
export async function* download(
  network: Network,
  url: URL,
  transfer: bindings.Transfer,
  signal: AbortSignal,
): AsyncGenerator<Piece, void> {
  for (;;) {
    const attempt = new AbortController();
    let pause: number | undefined;
    try {
      const response = await ask(
        network,
        url,
        transfer,
        AbortSignal.any([signal, attempt.signal]),
        attempt,
      );
      const begins = transfer.from === 0 && transfer.to === undefined;
      const answer = transfer.answered(head(response, url));
      if (answer.kind === "complete") return;
      if (answer.kind === "pause") {
        pause = answer.ms;
      } else {
        if ((begins && answer.kind !== "skip") || answer.kind === "restart")
          yield { kind: "begins", validator: transfer.validator };
        let skip = answer.kind === "skip" ? answer.bytes : 0;
        for await (const bytes of chunks(response, attempt)) {
          const fresh = bytes.subarray(Math.min(skip, bytes.length));
          skip -= bytes.length - fresh.length;
          transfer.received(fresh.length);
          if (fresh.length > 0) yield { kind: "bytes", bytes: fresh };
        }
        pause = transfer.ended();
        if (pause === undefined) return;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof Unanswered) pause = transfer.unanswered(error.message);
      else if (error instanceof Broken) pause = transfer.broke(error.message);
      else throw error;
    } finally {
      attempt.abort(); // Nothing more is wanted of this answer.
    }
    await sleep(pause, signal);
  }
}

async function ask(
  network: Network,
  url: URL,
  { from, to, ifRange }: bindings.Transfer,
  signal: AbortSignal,
  attempt: AbortController,
): Promise<Response> {
  const headers = new Headers();
  if (from > 0 || to !== undefined) {
    headers.set("Range", `bytes=${from}-${to ?? ""}`);
    if (ifRange !== undefined) headers.set("If-Range", ifRange);
  }
  return inTime(request(network, url, { headers }, signal), attempt);
}

async function* chunks(
  response: Response,
  attempt: AbortController,
): AsyncGenerator<Uint8Array, void> {
  const reader = response.body?.getReader();
  if (!reader) return;
  for (;;) {
    let read: ReadableStreamReadResult<Uint8Array>;
    try {
      read = await inTime(reader.read(), attempt);
    } catch (error) {
      throw error instanceof Broken
        ? error
        : new Broken(`the transfer broke off: ${(error as Error).message}`);
    }
    if (read.done) return;
    yield read.value;
  }
}

async function inTime<T>(work: Promise<T>, attempt: AbortController): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stalled = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Broken(`the server sent nothing for ${STALL_MS / 1000} s`));
      attempt.abort();
    }, STALL_MS);
  });
  try {
    return await Promise.race([work, stalled]);
  } finally {
    clearTimeout(timer);
  }
}

function head({ status, headers }: Response, url: URL) {
  const text = (name: string) => headers.get(name) ?? undefined;
  const number = (value: string | undefined) =>
    value !== undefined && /^\d+$/.test(value) ? Number(value) : undefined;
  const etag = text("ETag");
  const retry = text("Retry-After");
  const seconds = number(retry);
  const retryAfterMs =
    seconds !== undefined
      ? seconds * 1000
      : retry === undefined
        ? NaN
        : Date.parse(retry) - Date.now();
  // Of a compressed body the length is not that of the file; another origin's may be one.
  const contentLength = headers.has("Content-Encoding")
    ? undefined
    : number(text("Content-Length"));
  const page = globalThis.location === undefined ? undefined : globalThis.origin;
  return {
    status,
    contentType: text("Content-Type"),
    contentLength,
    mayBePacked: page !== undefined && url.origin !== page,
    contentRange: text("Content-Range"),
    validator: etag !== undefined && !etag.startsWith("W/") ? etag : text("Last-Modified"),
    retryAfterMs: Number.isFinite(retryAfterMs) ? Math.max(0, retryAfterMs) : undefined,
  };
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal.addEventListener("abort", abort, { once: true });
  });
}

/**
 * Reads ahead of whoever asks, by at most `limit` bytes and what one piece is longer: the network
 * does not wait for the device.
 */
export class ReadAhead implements AsyncIterable<Piece> {
  readonly #ready: Piece[] = [];
  #readyBytes = 0;
  #ended = false;
  #failed: { error: unknown } | undefined;
  #wakeReader = () => {};
  #wakeSource = () => {};

  constructor(source: AsyncIterable<Piece>, limit: number) {
    void this.#fill(source, limit);
  }

  async #fill(source: AsyncIterable<Piece>, limit: number): Promise<void> {
    try {
      for await (const piece of source) {
        this.#ready.push(piece);
        this.#readyBytes += length(piece);
        this.#wakeReader();
        while (this.#readyBytes >= limit)
          await new Promise<void>((resolve) => (this.#wakeSource = resolve));
      }
    } catch (error) {
      this.#failed = { error };
    }
    this.#ended = true;
    this.#wakeReader();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Piece, void> {
    for (;;) {
      const piece = this.#ready.shift();
      if (piece) {
        this.#readyBytes -= length(piece);
        this.#wakeSource();
        yield piece;
      } else if (this.#ended) {
        if (this.#failed) throw this.#failed.error;
        return;
      } else {
        await new Promise<void>((resolve) => (this.#wakeReader = resolve));
      }
    }
  }
}

function length(piece: Piece): number {
  return piece.kind === "bytes" ? piece.bytes.length : 0;
}

/**
 * The bytes from `start` to before `end` of a file, in order. Throws as {@link download}, also
 * where the server knows no ranges.
 */
export async function* downloadRange(
  network: Network,
  url: URL,
  { start, end, fileBytes }: { start: number; end: number; fileBytes: number },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void> {
  const name = shortAddress(url);
  const transfer = network.module.Transfer.ofRange(name, start, end, fileBytes, Math.random());
  try {
    for await (const piece of download(network, url, transfer, signal))
      if (piece.kind === "bytes") yield piece.bytes;
  } finally {
    transfer.free();
  }
}

/** A whole small file of a server. */
export async function fetchAll(
  network: Network,
  url: URL,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const transfer = new network.module.Transfer(
    shortAddress(url),
    undefined,
    0,
    undefined,
    false,
    Math.random(),
  );
  try {
    return await collect(download(network, url, transfer, signal), shortAddress(url), maxBytes);
  } finally {
    transfer.free();
  }
}

/** All of a small file, which errors call `name`. */
export async function collect(
  pieces: AsyncIterable<Piece>,
  name: string,
  maxBytes: number,
): Promise<Uint8Array> {
  let chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of pieces) {
    if (piece.kind === "begins") {
      [chunks, bytes] = [[], 0];
      continue;
    }
    bytes += piece.bytes.length;
    if (bytes > maxBytes)
      throw new UniviError(
        "bad-file",
        `${name}: longer than ${maxBytes} bytes, which nothing of its kind is`,
      );
    chunks.push(piece.bytes);
  }
  const all = new Uint8Array(bytes);
  let offset = 0;
  for (const chunk of chunks) {
    all.set(chunk, offset);
    offset += chunk.length;
  }
  return all;
}
