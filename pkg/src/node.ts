/**
 * The package in Node, Deno and Bun: the same, with models, pictures and clips from the disk as
 * well. WebGPU comes by the npm package `webgpu` (Dawn) where that is installed, else the CPU
 * computes; clips are decoded by `@napi-rs/webcodecs` where that is.
 *
 * @module univi in Node, Deno and Bun
 */
import * as buffer from "node:buffer";
import { openAsBlob, realpathSync } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { UniviError } from "./error.js";
import type { ModelSource } from "./calls.js";
import type { Device } from "./types.js";
import { runOn } from "./runtime.js";

export * from "./index.js";

/** Where tests pretend to be in a page, as with jsdom, the global one can't be read. */
const File = buffer.File as unknown as typeof globalThis.File;

const GGUF = /\.gguf$/i;

/** The largest manifest that is read; real ones have a few kilobytes. */
const MAX_MANIFEST_BYTES = 4 << 20;

runOn({
  worker: false,
  wasm: async (url) => (url.protocol === "file:" ? readFile(url) : undefined),
  prepare,
  prepareClips,
  stayAwake,
  base: () => undefined,
  model: async (name) => {
    const url =
      name instanceof URL || /^(https?|data|blob):/.test(name) ? new URL(name) : undefined;
    if (url && url.protocol !== "file:") return { kind: "url", url: url.href, resolves: false };
    return onDisk(pathOf(name));
  },
  mayName: (address, folder) => {
    if (/^(https?|data|blob):/i.test(String(address))) return true;
    if (folder === undefined) return false;
    try {
      // Links are followed: what counts is where the file really lies.
      const [file, root] = [address, folder].map((path) => realpathSync(pathOf(path)));
      const inside = relative(root!, file!);
      return inside !== "" && inside.split(sep)[0] !== ".." && !isAbsolute(inside);
    } catch {
      return false;
    }
  },
  url: (address) =>
    /^[a-z][a-z0-9+.-]+:/i.test(address) ? new URL(address) : pathToFileURL(resolve(address)),
  file: async (url) => {
    if (url.protocol !== "file:") return undefined;
    const path = fileURLToPath(url);
    try {
      return await openAsBlob(path);
    } catch (cause) {
      throw new UniviError("io", `${path}: can't be read: ${(cause as Error).message}`, { cause });
    }
  },
});

function pathOf(name: string | URL): string {
  return /^file:/i.test(String(name)) ? fileURLToPath(name) : String(name);
}

/**
 * The files of a model, and no others: those that a manifest names, or a GGUF file with its set.
 * What lies beside them is neither read nor looked at. Nothing of them is read yet.
 */
async function onDisk(path: string): Promise<ModelSource> {
  try {
    const isFolder = (await stat(path)).isDirectory();
    const folder = resolve(isFolder ? path : dirname(path));
    const names = isFolder ? await namesIn(folder, path) : await namesOf(folder, basename(path));
    const named = isFolder ? {} : { named: basename(path) };
    const files = names.map(
      async (name) => new File([await openAsBlob(join(folder, name))], name.replaceAll("\\", "/")),
    );
    return { kind: "files", files: await Promise.all(files), ...named };
  } catch (cause) {
    if (cause instanceof UniviError) throw cause;
    throw new UniviError("io", `${path}: can't be read: ${(cause as Error).message}`, { cause });
  }
}

/** The files of the model that a folder holds. */
async function namesIn(folder: string, path: string): Promise<string[]> {
  const names = (await readdir(folder, { withFileTypes: true }))
    .filter((entry) => !entry.isDirectory())
    .map((entry) => entry.name);
  if (names.includes("manifest.json")) return namesOf(folder, "manifest.json");
  const models = names.filter((name) => GGUF.test(name)).sort();
  const sets = new Set(models.map(setOf));
  if (sets.size > 1)
    throw new UniviError(
      "bad-request",
      `${path}: it holds ${sets.size} models and no manifest.json; name one of ${models.slice(0, 3).join(", ")}`,
    );
  if (models.length === 0)
    throw new UniviError(
      "bad-request",
      `${path}: there is neither a manifest.json nor a GGUF file in this folder`,
    );
  return models;
}

/** The files of the model that the file `name` begins. */
async function namesOf(folder: string, name: string): Promise<string[]> {
  if (GGUF.test(name)) {
    if (setOf(name) === name) return [name];
    return (await readdir(folder)).filter((other) => setOf(other) === setOf(name));
  }
  const path = join(folder, name);
  if ((await stat(path)).size > MAX_MANIFEST_BYTES)
    throw new UniviError("bad-file", `${path}: too long for a manifest; name a manifest.json`);
  const named = filesNamedIn(await readFile(path, "utf8"));
  const present = await Promise.all(
    named.map(async (file) => ((await isFile(join(folder, file))) ? [file] : [])),
  );
  return [name, ...present.flat()];
}

/** What a manifest names below its folder; whether it is one that can be used is found later. */
function filesNamedIn(manifest: string): string[] {
  let files: unknown;
  try {
    files = (JSON.parse(manifest) as { files?: unknown } | null)?.files;
  } catch {
    return [];
  }
  const paths = (Array.isArray(files) ? files : []).map(
    (file: { path?: unknown } | null) => file?.path,
  );
  const stays = (path: unknown): path is string =>
    typeof path === "string" && !isAbsolute(path) && !path.split(/[\\/]/).includes("..");
  return [...new Set(paths.filter(stays))];
}

/** What all files of a set have in common; the name of one that belongs to none. */
function setOf(name: string): string {
  return name.replace(/-\d{5}-of-(\d{5})\.gguf$/i, "-of-$1");
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}

/**
 * Puts Dawn where a page would find its GPU. Without the package there is none, and the CPU has to
 * do.
 */
async function prepare(device: Device): Promise<void> {
  const known = globalThis.navigator as { gpu?: unknown } | undefined;
  if (device === "cpu" || known?.gpu) return;
  const dawn = (await optional("webgpu")) as
    | { create(options: string[]): unknown; globals: object }
    | undefined;
  if (!dawn) return;
  Object.assign(globalThis, dawn.globals);
  const gpu = dawn.create([]);
  if (known) Object.defineProperty(known, "gpu", { value: gpu, configurable: true });
  else Object.defineProperty(globalThis, "navigator", { value: { gpu }, configurable: true });
  // wgpu looks for the GPU in a window or in a worker.
  if (!("Window" in globalThis))
    Object.defineProperty(globalThis, "Window", { value: AnyWindow, configurable: true });
}

/**
 * Puts WebCodecs where a page would find it. Without the package, animated pictures are the only
 * clips.
 */
async function prepareClips(): Promise<void> {
  if ("VideoDecoder" in globalThis) return;
  const codecs = await optional("@napi-rs/webcodecs");
  if (!codecs) return;
  const { VideoDecoder, VideoFrame, VideoColorSpace, EncodedVideoChunk } = codecs;
  Object.assign(globalThis, { VideoDecoder, VideoFrame, VideoColorSpace, EncodedVideoChunk });
}

/** A timer keeps a process from ending. That it waits for a decoder's frames does not. */
function stayAwake(): () => void {
  const timer = setInterval(() => {}, 2 ** 30);
  return () => clearInterval(timer);
}

/**
 * A package that users may install, or `undefined`. Bundlers must not look for it: most users have
 * not.
 */
async function optional(name: string): Promise<Record<string, unknown> | undefined> {
  try {
    return (await import(
      /* webpackIgnore: true */ /* turbopackIgnore: true */ /* @vite-ignore */ name
    )) as Record<string, unknown>;
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND") return undefined;
    // It is there, but broken, as on a system that it was not built for.
    console.warn(`univi: the package ${name} can't be used: ${(error as Error).message}`);
    return undefined;
  }
}

/** Takes everything for a window: that is how a page is told from a worker. */
class AnyWindow {
  static [Symbol.hasInstance](): boolean {
    return true;
  }
}
