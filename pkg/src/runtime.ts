/**
 * What differs between a browser and a server's JavaScript: where files lie, and who brings WebGPU
 * and WebCodecs.
 */
import type { ModelSource } from "./calls.js";
import type { Device } from "./types.js";

/** Where this code runs. */
export interface Runtime {
  /** Whether a model has a worker of its own unless it is said otherwise. */
  readonly worker: boolean;
  /** The WebAssembly module; `undefined` where it is fetched from beside its glue. */
  wasm(): Promise<BufferSource | undefined>;
  /** Brings WebGPU where it is not there by itself but can be had. */
  prepare(device: Device): Promise<void>;
  /** The same for WebCodecs, which decodes clips. */
  prepareClips(): Promise<void>;
  /** Where the model is that a user names. */
  model(name: string | URL): Promise<ModelSource>;
  /** The file that a URL names, where `fetch` does not know it. */
  file(url: URL): Promise<Blob | undefined>;
}

const browser: Runtime = {
  get worker() {
    return typeof Worker !== "undefined";
  },
  wasm: async () => undefined,
  prepare: async () => {},
  prepareClips: async () => {},
  // In a worker, a relative URL is meant from its script.
  model: async (name) => ({
    kind: "url",
    url: new URL(name, globalThis.document?.baseURI ?? globalThis.location?.href).href,
  }),
  file: async () => undefined,
};

/** Where this code runs: a browser, unless {@link runOn} has said otherwise. */
export let runtime: Runtime = browser;

/** Says where this code runs, before anything else is done. */
export function runOn(other: Runtime): void {
  runtime = other;
}

/**
 * Whether `value` is of a class that may not exist here, such as `HTMLVideoElement` in a worker.
 */
export function isA<N extends keyof typeof globalThis>(name: N, value: unknown): boolean {
  const type: unknown = globalThis[name];
  return typeof type === "function" && value instanceof type;
}
