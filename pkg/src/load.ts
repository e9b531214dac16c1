/**
 * From a model's files to an engine: several at once on their way, one after the other into the
 * loader.
 */
import type { bindings } from "../wasm/univi_web.js";
import { codeOf, UniviError } from "./error.js";
import {
  fileUrl,
  modelFiles,
  type ModelFiles,
  type OpenFile,
  type Resolve,
  type WantedFile,
} from "./files.js";
import type { Calls } from "./calls.js";
import type { Context } from "./rpc.js";
import type { Availability, LoadProgress, ModelInfo } from "./types.js";
import type { Bindings } from "./module.js";
import type { Network } from "./network.js";
import { Meter } from "./progress.js";
import { runtime } from "./runtime.js";
import { cachedOf, openStore } from "./store.js";
import { sha256Of } from "./digest.js";

/** Where uploads are verified, so many matrices are of which one is read back. */
const VERIFY_EVERY = 7;
/** So many files are on their way at the same time. */
const PARALLEL = 4;
/** Before more than this is on its way to the device, it is waited for. */
const IN_FLIGHT_BYTES = 16 << 20;
/**
 * Longer files are hashed as they come: the browser's own SHA-256, which is faster and leaves this
 * thread alone, takes all of a file at once.
 */
const MAX_HASHED_WHOLE_BYTES = 64 << 20;

/** What {@link load} leads to. */
export interface Loaded {
  readonly engine: bindings.Engine;
  readonly info: Pick<
    ModelInfo,
    "device" | "deviceReason" | "adapter" | "bytes" | "cachedBytes" | "cache"
  >;
}

/**
 * Loads a model. Of one that fails or is aborted nothing stays on the device; what came of its
 * files stays in the store.
 */
export async function load(
  module: Bindings,
  network: Network,
  resolve: Resolve,
  params: Calls["load"]["params"],
  { signal, emit }: Context<Calls["load"]["event"]>,
): Promise<Loaded> {
  await runtime.prepare(params.device);
  const store = await openStore(params.source.kind === "files" ? "none" : params.cache);
  const files = modelFiles(network, params.source, store, resolve);
  emit({ phase: "manifest", loaded: 0, total: 0, file: files.name });
  const manifest = await files.manifest(signal);
  const loader = await module.Loader.create(params.device, params);
  let drop = () => loader.free();
  try {
    if (manifest) loader.manifest(files.name, manifest);
    else loader.gguf(files.name);
    if (params.verifyUpload) loader.checkUpload(VERIFY_EVERY);
    await loader.checkRoom();
    await files.begin(loader.name, loader.files());
    const stream = new Stream(loader, files, signal, emit);
    await stream.run();
    const bytes = loader.doneBytes;
    const progress = { loaded: bytes, total: bytes, file: files.name };
    emit({ phase: "upload", ...progress });
    await loader.settle();
    emit({ phase: "compile", ...progress });
    const computes = await deviceOf(loader);
    drop = () => {}; // The loader becomes the engine, or goes.
    const engine = await loader.finish();
    drop = () => engine.dispose();
    signal.throwIfAborted();
    emit({ phase: "ready", ...progress });
    const cache = {
      kind: store.kind,
      ...(store.reason === undefined ? {} : { reason: store.reason }),
    };
    return {
      engine,
      info: { ...computes, bytes, cachedBytes: stream.cachedBytes, cache },
    };
  } catch (error) {
    drop();
    throw error;
  }
}

/** Whether a model would load. Rejects with the reason of an aborted `signal` alone. */
export async function availability(
  module: Bindings,
  network: Network,
  resolve: Resolve,
  params: Calls["availability"]["params"],
  signal: AbortSignal,
): Promise<Availability> {
  let loader: bindings.Loader | undefined;
  try {
    await runtime.prepare(params.device);
    const store = await openStore(params.source.kind === "kept" ? "auto" : "none");
    const files = modelFiles(network, params.source, store, resolve);
    const manifest = await files.manifest(signal);
    loader = await module.Loader.create(params.device, params);
    if (manifest) loader.manifest(files.name, manifest);
    else loader.gguf(files.name);
    await loader.checkRoom();
    const bytes = loader.totalBytes ?? (await lengthOf(files, loader.files(), signal));
    const about = {
      name: loader.name,
      ...(await deviceOf(loader)),
      ...(bytes === undefined ? {} : { bytes }),
    };
    if (params.source.kind !== "url")
      return {
        status: "available",
        ...about,
        ...(bytes === undefined ? {} : { cachedBytes: bytes }),
      };
    const { source } = params;
    const kept = await cachedOf(
      loader
        .files()
        .map(({ name, sha256, bytes }) => ({ url: fileUrl(source.url, name), sha256, bytes })),
    );
    const status = kept.complete ? "available" : kept.busy ? "downloading" : "downloadable";
    return { status, ...about, cachedBytes: kept.bytes };
  } catch (error) {
    signal.throwIfAborted();
    const code = codeOf(error);
    if (!code) throw error;
    return { status: "unavailable", reason: (error as Error).message, code };
  } finally {
    loader?.free();
  }
}

/** Bytes of all `wanted` files, as whoever has them tells. */
async function lengthOf(
  files: ModelFiles,
  wanted: readonly WantedFile[],
  signal: AbortSignal,
): Promise<number | undefined> {
  const lengths = await Promise.all(wanted.map((file) => files.length(file, signal)));
  return lengths.reduce((sum, length) =>
    sum === undefined || length === undefined ? undefined : sum + length,
  );
}

/** The files of a model on their way into the loader. */
class Stream {
  /** Bytes that no network had to bring. */
  cachedBytes = 0;
  readonly #loader: bindings.Loader;
  readonly #files: ModelFiles;
  readonly #signal: AbortSignal;
  readonly #meter: Meter;
  readonly #wanted: readonly WantedFile[];
  readonly #opened: (Promise<OpenFile> | undefined)[] = [];
  #inFlightBytes = 0;
  #whole = new Uint8Array();

  constructor(
    loader: bindings.Loader,
    files: ModelFiles,
    signal: AbortSignal,
    emit: (progress: LoadProgress) => void,
  ) {
    this.#loader = loader;
    this.#files = files;
    this.#signal = signal;
    this.#meter = new Meter(emit);
    this.#wanted = loader.files();
  }

  async run(): Promise<void> {
    try {
      for (const index of this.#wanted.keys()) {
        for (let ahead = index; ahead < Math.min(index + PARALLEL, this.#wanted.length); ahead++)
          this.#open(ahead);
        await this.#file(index);
      }
    } finally {
      // Where one failed, others may be on their way.
      await Promise.all(
        this.#opened.map((opened) =>
          opened?.then(
            (file) => file.close(),
            () => {},
          ),
        ),
      );
    }
  }

  #open(index: number): Promise<OpenFile> {
    const opened = (this.#opened[index] ??= this.#files.open(this.#wanted[index]!, this.#signal));
    opened.catch(() => {}); // Whoever awaits it hears of it.
    return opened;
  }

  /** Loads a file; wrong bytes are fetched once more before they count. */
  async #file(index: number): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const file = await this.#open(index);
      try {
        await this.#take(file, index);
        await file.right();
        return;
      } catch (error) {
        if (!mayBeWrongBytes(error)) throw error;
        await file.wrong();
        if (attempt > 0) throw error;
        this.#loader.restartFile();
      } finally {
        await file.close();
        this.#opened[index] = undefined;
      }
    }
  }

  async #take(file: OpenFile, index: number): Promise<void> {
    const { name, bytes, sha256 } = this.#wanted[index]!;
    // Only a page that came safely has it.
    const whole =
      sha256 !== undefined &&
      bytes !== undefined &&
      bytes <= MAX_HASHED_WHOLE_BYTES &&
      globalThis.crypto?.subtle
        ? this.#room(bytes)
        : undefined;
    let [kept, came] = [0, 0];
    if (whole) this.#loader.useExternalHash();
    for await (const piece of file.pieces) {
      this.#signal.throwIfAborted();
      if (piece.kind === "begins") {
        this.#loader.restartFile();
        if (whole) this.#loader.useExternalHash();
        kept = came = 0;
        continue;
      }
      this.#loader.push(piece.bytes);
      if (whole && came + piece.bytes.length > whole.length) {
        throw new UniviError(
          "bad-file",
          `${name}: it goes on behind the ${whole.length} bytes that the manifest promises`,
        );
      }
      whole?.set(piece.bytes, came);
      came += piece.bytes.length;
      if (piece.kept) kept += piece.bytes.length;
      this.#inFlightBytes += piece.bytes.length;
      if (this.#inFlightBytes >= IN_FLIGHT_BYTES) {
        await this.#loader.settle();
        this.#inFlightBytes = 0;
      }
      this.#meter.tell({
        phase: piece.kept ? "verify" : "download",
        loaded: this.#loader.doneBytes,
        total: this.#loader.totalBytes ?? 0,
        file: name,
      });
    }
    // While this one is hashed, another takes its place on the line.
    if (index + PARALLEL < this.#wanted.length) this.#open(index + PARALLEL);
    if (whole) this.#loader.setHash(await sha256Of(whole.subarray(0, came)));
    this.#loader.endFile();
    this.cachedBytes += kept;
  }

  /** Room for a whole file, the same for each. */
  #room(bytes: number): Uint8Array<ArrayBuffer> {
    if (this.#whole.length < bytes) this.#whole = new Uint8Array(bytes);
    return this.#whole.subarray(0, bytes);
  }
}

/** Whether other bytes might do: a network or device that fails says nothing about them. */
function mayBeWrongBytes(error: unknown): boolean {
  const code = codeOf(error);
  return (
    code !== undefined &&
    !["io", "no-gpu", "device-lost", "out-of-memory", "gpu", "bad-request", "internal"].includes(
      code,
    )
  );
}

/**
 * What computes, as the browser describes its GPU, such as "apple metal-3"; some browsers don't.
 */
async function deviceOf(
  loader: bindings.Loader,
): Promise<Pick<ModelInfo, "deviceReason" | "adapter"> & { readonly device: "webgpu" | "cpu" }> {
  const device = loader.device();
  if (device === "cpu") {
    const { adapter, deviceReason } = loader;
    return { device, adapter, ...(deviceReason === undefined ? {} : { deviceReason }) };
  }
  const info = (await navigator.gpu?.requestAdapter())?.info;
  const adapter =
    info?.description ||
    [info?.vendor, info?.architecture].filter(Boolean).join(" ") ||
    loader.adapter;
  return { device, adapter };
}
