/** A model's files, wherever they lie: a manifest and what it names, as streams of bytes. */
import { UniviError } from "./error.js";
import type { ModelSource } from "./protocol.js";

/** The largest manifest that is read; real ones have a few kilobytes. */
const MAX_MANIFEST_BYTES = 4 << 20;

/** Where a model's files come from. */
export interface ModelFiles {
  /** The manifest's, or the one GGUF's, name as the user knows it. */
  readonly name: string;
  /** The manifest; `undefined` where the model is one GGUF without any. */
  manifest(signal: AbortSignal): Promise<Uint8Array | undefined>;
  /** The bytes of the file that the manifest calls `path`. */
  open(path: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>>;
}

/** Finds the files of `source`; nothing is read yet. */
export function modelFiles(source: ModelSource): ModelFiles {
  return source.kind === "url" ? remoteFiles(new URL(source.url), source.allowCrossOrigin) : localFiles(source.files);
}

function remoteFiles(url: URL, allowCrossOrigin: boolean): ModelFiles {
  const single = isGguf(url.pathname);
  return {
    name: url.href,
    manifest: async (signal) => (single ? undefined : readAll(await fetched(url, signal), url.href)),
    open: async (path, signal) => {
      const target = single ? url : resolved(path, url);
      if (target.origin !== url.origin && !allowCrossOrigin) {
        throw new UniviError(
          "bad-file",
          `${url.href}: it names a file of another site, ${target.href}; allow that with allowCrossOrigin if you trust both`,
        );
      }
      return fetched(target, signal);
    },
  };
}

function resolved(path: string, base: URL): URL {
  try {
    return new URL(path, base);
  } catch (cause) {
    throw new UniviError("bad-file", `${base.href}: it names ${JSON.stringify(path)}, which is no address`, { cause });
  }
}

async function fetched(url: URL, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
  let response: Response;
  try {
    response = await fetch(url, { signal });
  } catch (cause) {
    signal.throwIfAborted();
    throw new UniviError("io", `${url.href}: can't be reached: ${(cause as Error).message}`, { cause });
  }
  if (!response.ok || !response.body) {
    throw new UniviError("io", `${url.href}: the server answered ${response.status} ${response.statusText}; is the address right?`);
  }
  if (response.headers.get("content-type")?.startsWith("text/html")) {
    throw new UniviError("bad-file", `${url.href}: the server sent a web page instead of the file; is the address right?`);
  }
  return response.body;
}

function localFiles(files: readonly File[]): ModelFiles {
  const paths = files.map((file) => file.webkitRelativePath || file.name);
  const manifests = paths.filter((path) => /(^|\/)manifest\.json$/.test(path)).sort((a, b) => a.length - b.length);
  const [manifest] = manifests;
  const [first] = paths;
  if (manifest === undefined && !(files.length === 1 && isGguf(first!))) {
    const found = first === undefined ? "no file was chosen" : `there is no manifest.json among the ${files.length} files`;
    throw new UniviError("bad-request", `${found}; choose a model's whole folder, or a single GGUF file`);
  }
  const folder = manifest?.slice(0, -"manifest.json".length) ?? "";
  const find = (path: string): File => {
    const file = files[paths.indexOf(folder + path)];
    if (!file) throw new UniviError("io", `${path}: the manifest names it, but it is not among the chosen files`);
    return file;
  };
  return {
    name: manifest ?? first!,
    manifest: async () => (manifest === undefined ? undefined : readAll(find("manifest.json").stream(), manifest)),
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
