/**
 * What differs between a browser and a server's JavaScript: where files lie, and who brings WebGPU
 * and WebCodecs.
 */
import type { ModelSource } from "./calls.js";
import { UniviError } from "./error.js";
import type { Device } from "./types.js";

/** Where this code runs. */
export interface Runtime {
  /** Whether a model has a worker of its own unless it is said otherwise. */
  readonly worker: boolean;
  /** The WebAssembly module at `url`; `undefined` where it is fetched. */
  wasm(url: URL): Promise<BufferSource | undefined>;
  /** Brings WebGPU where it is not there by itself but can be had. */
  prepare(device: Device): Promise<void>;
  /** The same for WebCodecs, which decodes clips. */
  prepareClips(): Promise<void>;
  /** Keeps the process from ending while a clip is open, until what this returns is called. */
  stayAwake(): () => void;
  /** What relative URLs are meant from: a page, not a worker's script. */
  base(): string | undefined;
  /** Where the model is that a user names. */
  model(name: string | URL): Promise<ModelSource>;
  /** The address of a picture or clip, as a user writes it. Throws where it is none. */
  url(address: string): URL;
  /** Whether a message may name `address`: any but that of a file on the disk outside `folder`. */
  mayName(address: string | URL, folder: string | URL | undefined): boolean;
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
  stayAwake: () => () => {}, // A page does not end by itself.
  base: () => globalThis.document?.baseURI ?? globalThis.location?.href,
  model: async (name) => ({
    kind: "url",
    url: absolute(name, browser.base()),
    resolves: false,
  }),
  url: (address) => new URL(address, browser.base()),
  mayName: () => true, // A browser has its own rules.
  file: async () => undefined,
};

function absolute(name: string | URL, base: string | undefined): string {
  try {
    return new URL(name, base).href;
  } catch (cause) {
    const why = `"${String(name).slice(0, 80)}" is no URL of a model`;
    throw new UniviError("bad-request", why, { cause });
  }
}

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
