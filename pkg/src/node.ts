/**
 * The package in Node, Deno and Bun: the same, with models, pictures and clips from the disk as
 * well. WebGPU comes by the npm package `webgpu` (Dawn) where that is installed, else the CPU
 * computes; clips are decoded by `@napi-rs/webcodecs` where that is.
 *
 * @packageDocumentation
 */
import { openAsBlob } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { UniviError } from "./error.js";
import type { ModelSource } from "./calls.js";
import type { Device } from "./types.js";
import { runOn } from "./runtime.js";

export * from "./index.js";

/** Pictures that may move are told by their type. */
const ANIMATIONS: Record<string, string> = { ".gif": "image/gif", ".webp": "image/webp" };

runOn({
  worker: false,
  wasm: () => readFile(new URL("../wasm/univi_web_bg.wasm", import.meta.url)),
  prepare,
  prepareClips,
  model: async (name) => {
    if (name instanceof URL)
      return name.protocol === "file:"
        ? onDisk(fileURLToPath(name))
        : { kind: "url", url: name.href };
    return /^https?:/.test(name)
      ? { kind: "url", url: new URL(name).href }
      : onDisk(name.startsWith("file:") ? fileURLToPath(name) : name);
  },
  file: async (url) => {
    if (url.protocol !== "file:") return undefined;
    const path = fileURLToPath(url);
    try {
      return await openAsBlob(path, { type: ANIMATIONS[extname(path).toLowerCase()] ?? "" });
    } catch (cause) {
      throw new UniviError("io", `${path}: can't be read: ${(cause as Error).message}`, { cause });
    }
  },
});

/**
 * The files of a model: a manifest's or a GGUF file's whole folder. Nothing of them is read yet.
 */
async function onDisk(path: string): Promise<ModelSource> {
  try {
    const isFolder = (await stat(path)).isDirectory();
    const folder = resolve(isFolder ? path : dirname(path));
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    const paths = entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
    const gguf = /\.gguf$/i;
    // A GGUF file that is named counts alone, with the others of its set.
    const set = basename(path).replace(/-\d{5}-of-\d{5}\.gguf$/i, "");
    const wanted = gguf.test(path)
      ? paths.filter(
          (name) => gguf.test(name) && (name === basename(path) || name.startsWith(`${set}-`)),
        )
      : paths;
    const files = wanted.map(
      async (name) => new File([await openAsBlob(join(folder, name))], name.replaceAll("\\", "/")),
    );
    return { kind: "files", files: await Promise.all(files) };
  } catch (cause) {
    throw new UniviError("io", `${path}: can't be read: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Puts Dawn where a page would find its GPU. Without the package there is none, and the CPU has to
 * do.
 */
async function prepare(device: Device): Promise<void> {
  const known = globalThis.navigator as { gpu?: unknown } | undefined;
  if (device === "cpu" || known?.gpu) return;
  const name = "webgpu"; // For whoever installs it: a bundler need not find it.
  const dawn = (await import(name).catch(() => undefined)) as
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
  const name = "@napi-rs/webcodecs"; // As above.
  const codecs = (await import(name).catch(() => undefined)) as Record<string, unknown> | undefined;
  if (!codecs) return;
  const { VideoDecoder, VideoFrame, VideoColorSpace, EncodedVideoChunk } = codecs;
  Object.assign(globalThis, { VideoDecoder, VideoFrame, VideoColorSpace, EncodedVideoChunk });
}

/** Takes everything for a window: that is how a page is told from a worker. */
class AnyWindow {
  static [Symbol.hasInstance](): boolean {
    return true;
  }
}
