/** Carries out the page's calls: the end of the protocol that holds the model. */
import init, { Clip, type Engine, Loader, type Session, Turn, type Visual } from "../wasm/univi_web.js";
import { UniviError } from "./error.js";
import { fetched, modelFiles } from "./files.js";
import type { Context, Handle, Handlers, ImageSource, LoadProgress, ModelInfo, ModelSource, Seen, Usage } from "./protocol.js";

/** Progress is told at most so often. */
const PROGRESS_INTERVAL_MS = 60;
/** Over how long a download's speed is measured. */
const SPEED_WINDOW_MS = 3000;

/** Handlers that share one model. */
export function host(): Handlers {
  let engine: Engine | undefined;
  const visuals = new Map<Handle, Visual>();
  const clips = new Map<Handle, Clip>();
  const sessions = new Map<Handle, Session>();

  const loaded = (): Engine => {
    if (!engine) throw new UniviError("bad-request", "no model is loaded");
    return engine;
  };
  const clip = (handle: Handle): Clip => {
    const known = clips.get(handle) ?? new Clip();
    clips.set(handle, known);
    return known;
  };
  const keep = async (handle: Handle, visual: Visual): Promise<Seen> => {
    visuals.set(handle, visual);
    return visual.seen();
  };

  return {
    async load({ source, device, contextLength }, context) {
      await init();
      const loading = await load(source, await Loader.create(device), context);
      engine = await loading.loader.finish(contextLength);
      return { ...loading.info, ...engine.info() };
    },

    async encodeImage({ visual, image }, { signal }) {
      return keep(visual, await encodeImage(loaded(), image, signal));
    },

    async frameTimes({ durationSeconds, choice }) {
      return [...Clip.frameTimes(durationSeconds, choice)];
    },

    async pushAnimation({ visual, blob, name, choice }) {
      const bytes = await bytesOf(blob);
      clip(visual).pushAnimation(loaded(), bytes, name, choice);
    },

    async pushFrame({ visual, timeSeconds, frame }) {
      const { width, height, rgba } = pixels(frame);
      clip(visual).pushFrame(loaded(), width, height, rgba, timeSeconds);
    },

    async encodeClip({ visual }) {
      const frames = clip(visual);
      clips.delete(visual);
      return keep(visual, await loaded().clip(frames));
    },

    async openSession({ session, options }) {
      sessions.set(session, loaded().session(options));
    },

    async answer({ session: handle, parts, options }, { signal, emit }): Promise<Usage> {
      const session = sessions.get(handle);
      if (!session) throw new UniviError("bad-request", "this conversation has ended; begin a new one");
      const turn = new Turn();
      for (const part of parts) {
        if (typeof part === "string") turn.text(part);
        else turn.visual(visuals.get(part.visual)!);
      }
      const asked = performance.now();
      let first: number | undefined;
      const onPiece = async (piece: string): Promise<boolean> => {
        if (piece !== "") {
          first ??= performance.now();
          emit(piece);
        }
        await nextTask(); // A cancelling message gets its turn.
        return !signal.aborted;
      };
      const usage = await session.answer(turn, options, onPiece);
      const ended = performance.now();
      signal.throwIfAborted();
      const { completionTokens } = usage;
      const tokensPerSecond = first === undefined || completionTokens < 2 ? 0 : (1000 * (completionTokens - 1)) / (ended - first);
      return { ...usage, timeToFirstTokenMs: (first ?? ended) - asked, tokensPerSecond };
    },

    async free({ handles }) {
      for (const handle of handles) {
        for (const things of [visuals, clips, sessions] as Map<Handle, { free(): void }>[]) {
          things.get(handle)?.free();
          things.delete(handle);
        }
      }
    },
  };
}

/** Streams the files of `source` into `loader`. */
async function load(
  source: ModelSource,
  loader: Loader,
  { signal, emit }: Context<"load">,
): Promise<{ loader: Loader; info: Pick<ModelInfo, "device" | "adapter" | "bytes"> }> {
  const files = modelFiles(source);
  emit({ phase: "manifest", loaded: 0, total: 0, file: files.name });
  const manifest = await files.manifest(signal);
  if (manifest) loader.manifest(files.name, manifest);
  else loader.gguf(files.name);
  const meter = new Meter(emit);
  for (let path = loader.nextFile(); path !== undefined; path = loader.nextFile()) {
    const reader = (await files.open(path, signal)).getReader();
    try {
      for (;;) {
        const { done, value } = await read(reader, path, signal);
        if (done) break;
        loader.push(value);
        meter.tell({ phase: "weights", loaded: loader.doneBytes, total: loader.totalBytes ?? 0, file: path });
      }
    } finally {
      reader.cancel().catch(() => {}); // Nothing more is wanted of it, come what may.
    }
    loader.endFile();
  }
  const bytes = loader.doneBytes;
  emit({ phase: "ready", loaded: bytes, total: bytes, file: files.name });
  const computes = loader.device();
  return { loader, info: { device: computes, adapter: (computes === "webgpu" && (await adapterName())) || loader.adapter, bytes } };
}

/** What the browser tells of its GPU, such as "apple metal-3"; some tell nothing. */
async function adapterName(): Promise<string> {
  const info = (await navigator.gpu.requestAdapter())?.info;
  return info?.description || [info?.vendor, info?.architecture].filter(Boolean).join(" ");
}

async function read(reader: ReadableStreamDefaultReader<Uint8Array>, path: string, signal: AbortSignal) {
  signal.throwIfAborted();
  try {
    return await reader.read();
  } catch (cause) {
    signal.throwIfAborted();
    throw new UniviError("io", `${path}: the transfer broke off: ${(cause as Error).message}`, { cause });
  }
}

/** Tells progress now and then, with the speed of the last seconds. */
class Meter {
  readonly #emit: (progress: LoadProgress) => void;
  #samples: { at: number; loaded: number }[] = [];

  constructor(emit: (progress: LoadProgress) => void) {
    this.#emit = emit;
  }

  tell(progress: LoadProgress): void {
    const at = performance.now();
    const last = this.#samples.at(-1);
    if (last && at - last.at < PROGRESS_INTERVAL_MS) return;
    this.#samples = [...this.#samples.filter((sample) => at - sample.at < SPEED_WINDOW_MS), { at, loaded: progress.loaded }];
    const oldest = this.#samples[0]!;
    const seconds = (at - oldest.at) / 1000;
    this.#emit(seconds > 0.5 ? { ...progress, bytesPerSecond: (progress.loaded - oldest.loaded) / seconds } : progress);
  }
}

async function encodeImage(engine: Engine, image: ImageSource, signal: AbortSignal): Promise<Visual> {
  switch (image.kind) {
    case "blob":
      return engine.image(await bytesOf(image.blob), image.name);
    case "url":
      return engine.image(await bytesOf(await fetched(new URL(image.url), signal)), image.url);
    case "pixels":
      return engine.pixels(image.width, image.height, image.rgba);
    case "bitmap": {
      const { width, height, rgba } = pixels(image.bitmap);
      return engine.pixels(width, height, rgba);
    }
  }
}

async function bytesOf(blob: Blob | Response): Promise<Uint8Array> {
  return new Uint8Array(await blob.arrayBuffer());
}

/** The pixels of a bitmap, which is spent. */
function pixels(bitmap: ImageBitmap): { width: number; height: number; rgba: Uint8ClampedArray } {
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true })!;
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, rgba: context.getImageData(0, 0, width, height).data };
}

/** Lets messages that wait come in. */
function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}
