/** A model's files, wherever they lie: a manifest and what it names, as streams of bytes. */
import { UniviError } from "./error.js";
import type { ModelSource } from "./protocol.js";

/** The largest manifest that is read; real ones have a few kilobytes. */
const MAX_MANIFEST_BYTES = 4 << 20;

/** Where a model's files come from. */
export interface ModelFiles {
  /** The manifest, or the first GGUF file, as the user knows it. */
  readonly name: string;
  /** The manifest; `undefined` where the model is a GGUF file, or a set of them, without any. */
  manifest(signal: AbortSignal): Promise<Uint8Array | undefined>;
  /** The bytes of the file that stands at `path` beside the first one. */
  open(path: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>>;
}

/** Finds the files of `source`; nothing is read yet. */
export function modelFiles(source: ModelSource): ModelFiles {
  return source.kind === "url" ? remoteFiles(new URL(source.url)) : localFiles(source.files);
}

function remoteFiles(url: URL): ModelFiles {
  const gguf = isGguf(url.pathname);
  const name = decodeURIComponent(url.pathname.split("/").at(-1)!);
  // A manifest's paths were checked to stay in its folder.
  const address = (path: string) => (path === name ? url : new URL(path.split("/").map(encodeURIComponent).join("/"), url));
  const stream = async (address: URL, signal: AbortSignal) => (await fetched(address, signal)).body ?? new Blob([]).stream();
  return {
    name,
    manifest: async (signal) => (gguf ? undefined : readAll(await stream(url, signal), url.href)),
    open: (path, signal) => stream(address(path), signal),
  };
}

/** What the server answers, where that is the file. */
export async function fetched(url: URL, signal: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { signal });
  } catch (cause) {
    signal.throwIfAborted();
    throw new UniviError("io", `${url.href}: can't be reached: ${(cause as Error).message}`, { cause });
  }
  if (!response.ok) {
    throw new UniviError("io", `${url.href}: the server answered ${response.status} ${response.statusText}; is the address right?`);
  }
  if (response.headers.get("content-type")?.startsWith("text/html")) {
    throw new UniviError("bad-file", `${url.href}: the server sent a web page instead of the file; is the address right?`);
  }
  return response;
}

function localFiles(files: readonly File[]): ModelFiles {
  const paths = files.map((file) => file.webkitRelativePath || file.name).sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
  const byPath = new Map(files.map((file) => [file.webkitRelativePath || file.name, file]));
  const manifest = paths.find((path) => /(^|\/)manifest\.json$/.test(path));
  const first = manifest ?? paths.find(isGguf);
  if (first === undefined) {
    const found = files.length === 0 ? "no file was chosen" : `there is no manifest.json among the ${files.length} files`;
    throw new UniviError("bad-request", `${found}; choose a model's whole folder, or GGUF files`);
  }
  const name = first.split("/").at(-1)!;
  const folder = first.slice(0, first.length - name.length);
  const find = (path: string): File => {
    const file = byPath.get(folder + path);
    if (!file) throw new UniviError("io", `${path}: ${name} asks for it, but it is not among the chosen files`);
    return file;
  };
  return {
    name,
    manifest: async () => (manifest === undefined ? undefined : readAll(find(name).stream(), name)),
    open: async (path) => find(path).stream(),
  };
}

function isGguf(path: string): boolean {
  return path.toLowerCase().endsWith(".gguf");
}

async function readAll(stream: ReadableStream<Uint8Array>, name: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes += value.length;
    if (bytes > MAX_MANIFEST_BYTES) {
      await reader.cancel();
      throw new UniviError("bad-file", `${name}: longer than ${MAX_MANIFEST_BYTES} bytes, so it is no manifest`);
    }
    chunks.push(value);
  }
  const all = new Uint8Array(bytes);
  let offset = 0;
  for (const chunk of chunks) {
    all.set(chunk, offset);
    offset += chunk.length;
  }
  return all;
}
