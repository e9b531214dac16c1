/** A model's files, wherever they lie: a manifest and what it names, as pieces of bytes. */
import type { bindings } from "../wasm/univi_web.js";
import { collect, download, fetchAll, type Piece, ReadAhead } from "./download.js";
import { codeOf, UniviError } from "./error.js";
import type { ModelSource } from "./calls.js";
import { type Network, request } from "./network.js";
import type { FileKey, ModelAbout, Store, StoredFile } from "./store.js";

/** The largest manifest that is read; real ones have a few kilobytes. */
const MAX_MANIFEST_BYTES = 4 << 20;

/** So long a server has to tell how long a file is. */
const LENGTH_MS = 5000;

/**
 * Of the files that are fetched at the same time, each may be so far ahead of what the device has
 * taken.
 */
const AHEAD_BYTES = 12 << 20;

/** A file that the loader wants. */
export interface WantedFile {
  /** Its path beside the manifest. */
  readonly name: string;
  readonly bytes?: number;
  readonly sha256?: string;
}

/** A file that is being read. */
export interface OpenFile {
  /** Its bytes from the start, or from the start again. Asked for once. */
  readonly pieces: AsyncIterable<Piece & { readonly kept?: boolean }>;
  /** The bytes were right: they are kept. */
  right(): Promise<void>;
  /** The bytes were wrong: they are not. */
  wrong(): Promise<void>;
  /** Nothing more is wanted of it. */
  close(): Promise<void>;
}

/** Where a model's files come from. */
export interface ModelFiles {
  /** The manifest, or the first GGUF file, as the user knows it. */
  readonly name: string;
  /** The manifest; `undefined` where the model is a GGUF file, or a set of them, without any. */
  manifest(signal: AbortSignal): Promise<Uint8Array | undefined>;
  /** Returns the length of a file that no manifest describes; `undefined` where none is told. */
  length(file: WantedFile, signal: AbortSignal): Promise<number | undefined>;
  /** Opens the file that stands beside the first one; what a server has to send begins to come. */
  open(file: WantedFile, signal: AbortSignal): Promise<OpenFile>;
  /** Notes, before they are opened, that `files` belong to the model that is called `name`. */
  begin(name: string, files: readonly WantedFile[]): Promise<void>;
}

/** Asks the page where a file of the model lies. */
export type Resolve = (name: string, signal: AbortSignal) => Promise<URL>;

/** Finds the files of `source`; nothing is read yet. */
export function modelFiles(
  network: Network,
  source: ModelSource,
  store: Store,
  resolve: Resolve,
): ModelFiles {
  switch (source.kind) {
    case "url":
      return new RemoteFiles(network, source, store, source.resolves ? resolve : undefined);
    case "kept":
      return keptFiles(source.key, store);
    case "files":
      return localFiles(source.files, source.named);
  }
}

/** Files on a server, and what the store keeps of them. */
class RemoteFiles implements ModelFiles {
  readonly name: string;
  readonly #network: Network;
  readonly #url: URL;
  /** What the store calls the model. */
  readonly #key: string;
  readonly #store: Store;
  readonly #resolve: Resolve | undefined;
  #manifest: Uint8Array | undefined;

  constructor(
    network: Network,
    { url, key = url }: Extract<ModelSource, { kind: "url" }>,
    store: Store,
    resolve: Resolve | undefined,
  ) {
    this.#url = new URL(url);
    this.name = nameOf(this.#url.pathname);
    this.#network = network;
    this.#key = key;
    this.#store = store;
    this.#resolve = resolve;
  }

  async manifest(signal: AbortSignal): Promise<Uint8Array | undefined> {
    if (isGguf(this.#url.pathname)) return undefined;
    const kept = await this.#store.getDocument(this.#key);
    // Without a network, what is kept will do.
    if (kept && navigator.onLine === false) return kept;
    try {
      this.#manifest = await fetchAll(this.#network, this.#url, MAX_MANIFEST_BYTES, signal);
      return this.#manifest;
    } catch (error) {
      signal.throwIfAborted();
      if (kept && codeOf(error) === "io") return kept;
      throw error;
    }
  }

  async length(file: WantedFile, signal: AbortSignal): Promise<number | undefined> {
    try {
      const url = await this.#resolved(file.name, signal);
      const inTime = AbortSignal.any([signal, AbortSignal.timeout(LENGTH_MS)]);
      const response = await request(this.#network, url, { method: "HEAD" }, inTime);
      const length = response.headers.get("Content-Length");
      return response.ok && length !== null ? Number(length) : undefined;
    } catch {
      // A signed address may be good for reading alone; what is wrong with others, loading tells.
      signal.throwIfAborted();
      return undefined;
    }
  }

  async open(file: WantedFile, signal: AbortSignal): Promise<OpenFile> {
    const stored = await this.#store.open(this.#fileKey(file), signal);
    const address = () => this.#resolved(file.name, signal);
    return new RemoteFile(this.#network, address, file, stored, signal);
  }

  async begin(name: string, files: readonly WantedFile[]): Promise<void> {
    const about: ModelAbout = { name, files: files.map((file) => this.#fileKey(file)) };
    await this.#store.putDocument(this.#key, this.#manifest ?? new Uint8Array(), about);
  }

  #fileKey({ name, sha256, bytes }: WantedFile): FileKey {
    return { url: this.#address(name).href, sha256, bytes };
  }

  async #resolved(path: string, signal: AbortSignal): Promise<URL> {
    return (await this.#resolve?.(path, signal)) ?? this.#address(path);
  }

  #address(path: string): URL {
    return new URL(fileUrl(this.#url.href, path));
  }
}

/**
 * Where a file of the model at `url` lies; a manifest's paths were checked to stay in its folder.
 * The query goes along: it may be a signature.
 */
export function fileUrl(url: string, path: string): string {
  const { pathname } = new URL(url);
  if (path === nameOf(pathname)) return url;
  const file = new URL(path.split("/").map(encodeURIComponent).join("/"), url);
  file.search = new URL(url).search;
  return file.href;
}

function nameOf(pathname: string): string {
  return decodeURIComponent(pathname.split("/").at(-1)!);
}

/** A file on a server, and what the store keeps of it. */
class RemoteFile implements OpenFile {
  readonly pieces: AsyncIterable<Piece & { readonly kept?: boolean }>;
  readonly #stored: StoredFile;
  readonly #stop = new AbortController();
  readonly #transfer: bindings.Transfer | undefined;

  constructor(
    network: Network,
    address: () => Promise<URL>,
    file: WantedFile,
    stored: StoredFile,
    signal: AbortSignal,
  ) {
    this.#stored = stored;
    // What is known by its hash needs no server to tell whether it is the latest.
    if (file.sha256 !== undefined && (stored.complete || stored.size === file.bytes)) {
      this.pieces = keptPieces(stored);
      return;
    }
    this.#transfer = new network.module.Transfer(
      file.name,
      file.bytes,
      stored.size,
      stored.validator,
      file.sha256 !== undefined,
      Math.random(),
    );
    const rest = downloadFrom(
      network,
      address,
      this.#transfer,
      AbortSignal.any([signal, this.#stop.signal]),
    );
    this.pieces = this.#all(new ReadAhead(rest, AHEAD_BYTES));
  }

  async *#all(
    rest: AsyncIterable<Piece>,
  ): AsyncGenerator<Piece & { readonly kept?: boolean }, void> {
    const complete = this.#stored.complete;
    if (this.#stored.size > 0) yield* keptPieces(this.#stored);
    try {
      for await (const piece of rest) {
        if (piece.kind === "begins") await this.#stored.begin(piece.validator);
        else await this.#stored.append(piece.bytes);
        yield piece;
      }
    } catch (error) {
      // A file that is whole does without a server that can't be reached.
      if (!complete || codeOf(error) !== "io") throw error;
    }
  }

  right(): Promise<void> {
    return this.#stored.finish();
  }

  wrong(): Promise<void> {
    return this.#stored.evict();
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#stored.close();
  }
}

async function* downloadFrom(
  network: Network,
  address: () => Promise<URL>,
  transfer: bindings.Transfer,
  signal: AbortSignal,
): AsyncGenerator<Piece, void> {
  yield* download(network, await address(), transfer, signal);
}

/** The files of a model that the store keeps whole; no server is asked for them. */
function keptFiles(key: string, store: Store): ModelFiles {
  const gone = (what: string) =>
    new UniviError(
      "io",
      `${key}: this browser no longer keeps ${what}; load the model again to fetch it anew`,
    );
  return {
    name: key,
    manifest: async () => {
      const manifest = await store.getDocument(key);
      if (!manifest) throw gone("its manifest");
      return manifest;
    },
    length: async (file) => file.bytes,
    open: async ({ name, sha256, bytes }, signal) => {
      const stored = await store.open({ url: `${key}/${name}`, sha256, bytes }, signal);
      if (!stored.complete) {
        await stored.close();
        throw gone(name);
      }
      return {
        pieces: keptPieces(stored),
        right: async () => {},
        wrong: () => stored.evict(),
        close: () => stored.close(),
      };
    },
    begin: async () => {},
  };
}

async function* keptPieces(
  stored: StoredFile,
): AsyncGenerator<Piece & { readonly kept: true }, void> {
  for await (const bytes of stored.read()) yield { kind: "bytes", bytes, kept: true };
}

function localFiles(files: readonly File[], named: string | undefined): ModelFiles {
  const paths = files
    .map((file) => file.webkitRelativePath || file.name)
    .sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
  const byPath = new Map(files.map((file) => [file.webkitRelativePath || file.name, file]));
  const isManifest = (path: string) =>
    named === undefined ? /(^|\/)manifest\.json$/.test(path) : path === named && !isGguf(path);
  const manifest = paths.find(isManifest);
  const first = manifest ?? paths.find(isGguf);
  if (first === undefined) {
    const found =
      files.length === 0
        ? "no file was chosen"
        : `there is no manifest.json among the ${files.length} files`;
    throw new UniviError("bad-request", `${found}; choose a model's whole folder, or GGUF files`);
  }
  const name = first.split("/").at(-1)!;
  const folder = first.slice(0, first.length - name.length);
  const find = (path: string): File => {
    const file = byPath.get(folder + path);
    if (!file)
      throw new UniviError(
        "io",
        `${path}: ${name} asks for it, but it is not among the chosen files`,
      );
    return file;
  };
  return {
    name,
    manifest: async () =>
      manifest === undefined ? undefined : collect(piecesOf(find(name)), name, MAX_MANIFEST_BYTES),
    length: async (file) => find(file.name).size,
    open: async (file) => {
      const nothing = async () => {};
      return { pieces: piecesOf(find(file.name)), right: nothing, wrong: nothing, close: nothing };
    },
    begin: async () => {},
  };
}

function isGguf(path: string): boolean {
  return path.toLowerCase().endsWith(".gguf");
}

async function* piecesOf(file: File): AsyncGenerator<Piece, void> {
  const reader = file.stream().getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((cause: Error) => {
        throw new UniviError(
          "io",
          `${file.name}: can't be read: ${cause.message}; was it moved or changed?`,
          { cause },
        );
      });
      if (done) return;
      yield { kind: "bytes", bytes: value };
    }
  } finally {
    reader.cancel().catch(() => {}); // Whoever left early wants no more of it.
  }
}
