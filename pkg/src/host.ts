/** Carries out the page's calls: the end of the channel that holds the model. */
import type { bindings } from "../wasm/univi_web.js";
import { checked } from "./arguments.js";
import type { AnswerPiece, Calls, Handle, ResolveRequest, SentImage, SentPart } from "./calls.js";
import { fetchAll } from "./download.js";
import { UniviError } from "./error.js";
import { listHub } from "./hub/listing.js";
import { availability, load } from "./load.js";
import type { Resolve } from "./files.js";
import { type Bindings, inference } from "./module.js";
import type { Network } from "./network.js";
import type { Handlers, Host } from "./rpc.js";
import type { Usage } from "./types.js";
import type { Instance } from "./wasm-module.js";

/** Longer than any picture, or clip that is fetched whole. */
const MAX_FILE_BYTES = 256 << 20;

/** Makes handlers that share one model, and check their parameters before anything else. */
export const host: Host<Calls> = (fail) => checked(handlersOf(fail));

function handlersOf(fail: (error: UniviError) => void): Handlers<Calls> {
  let instance: Instance<Bindings> | undefined;
  let network: Network | undefined;
  const resolving = new Map<number, (answer: Calls["resolved"]["params"]) => void>();
  let engine: bindings.Engine | undefined;
  const visuals = new Map<Handle, bindings.Visual>();
  const tokenMaps = new Map<Handle, bindings.TokenMap>();
  const clips = new Map<Handle, bindings.Clip>();
  const sessions = new Map<Handle, bindings.Session>();
  const lives = new Map<Handle, bindings.EncodedFrame[]>();

  /** Asks the page, through the events of a call, where a file lies. */
  const resolverOf =
    (emit: (event: ResolveRequest) => void): Resolve =>
    (name, signal) =>
      new Promise((resolve, reject) => {
        const request = nextRequest++;
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
        resolving.set(request, ({ url, error }) => {
          resolving.delete(request);
          if (url !== undefined) resolve(new URL(url));
          else reject(new UniviError("bad-request", `${name}: ${error}`));
        });
        emit({ request, resolve: name });
      });
  let nextRequest = 0;
  const module = (): Bindings => {
    if (!instance) throw new UniviError("bad-request", "no model is loaded");
    return instance.bindings;
  };
  const loaded = (): bindings.Engine => {
    if (!engine) throw new UniviError("bad-request", "no model is loaded");
    return engine;
  };
  const clip = (handle: Handle): bindings.Clip => {
    const known = clips.get(handle) ?? new (module().Clip)();
    clips.set(handle, known);
    return known;
  };
  const keep = (
    visual: bindings.Visual,
    params: { visual: Handle; tokenMap?: Handle },
    stages = true,
  ): void => {
    visuals.set(params.visual, visual);
    if (params.tokenMap !== undefined) tokenMaps.set(params.tokenMap, visual.tokenMap(stages));
  };
  const conversation = (handle: Handle): bindings.Session => {
    const session = sessions.get(handle);
    if (!session)
      throw new UniviError("bad-request", "this conversation has ended; begin a new one");
    return session;
  };
  const turnOf = (parts: readonly SentPart[]): bindings.Turn => {
    const turn = new (module().Turn)();
    for (const part of parts) {
      if (typeof part === "string") turn.text(part);
      else turn.visual(visuals.get(part.visual)!);
    }
    return turn;
  };

  return {
    async load(params, context) {
      instance = await inference.instantiate(fail);
      const { bindings } = instance;
      network = networkOf(bindings, params);
      const loaded = await load(bindings, network, resolverOf(context.emit), params, context);
      engine = loaded.engine;
      return { ...loaded.info, ...engine.info() };
    },

    async availability(params, { signal, emit }) {
      const { bindings } = await inference.instantiate(fail);
      const network = networkOf(bindings, params);
      return availability(bindings, network, resolverOf(emit), params, signal);
    },

    async listHub({ hub, repository, revision, allowedOrigins }, { signal }) {
      const { bindings: module } = await inference.instantiate(fail);
      return listHub({ module, allowedOrigins, hub }, repository, revision, signal);
    },

    async resolved(answer) {
      resolving.get(answer.request)?.(answer);
    },

    async encodeImage(params) {
      keep(await encodeImage(loaded(), params.image, params.visualTokens), params);
    },

    async tokenMap({ tokenMap }) {
      const map = tokenMaps.get(tokenMap);
      if (!map) throw new UniviError("bad-request", "this token map was freed");
      return map.read();
    },

    async fetchFile({ url }, { signal }) {
      loaded();
      const bytes = await fetchAll(network!, new URL(url), MAX_FILE_BYTES, signal);
      return new Blob([bytes as Uint8Array<ArrayBuffer>]);
    },

    async frameTimes({ timing: { firstSeconds, lastSeconds, endSeconds }, choice }) {
      const first = Float64Array.from(firstSeconds);
      return [...module().Clip.frameTimes(first, lastSeconds, endSeconds, choice)];
    },

    async clipTokens({ frames, visualTokens }) {
      return loaded().clipTokens(frames, visualTokens);
    },

    async pushAnimation({ visual, blob, name, choice }, { signal }) {
      const bytes = await bytesOf(blob);
      const onFrame = async (): Promise<boolean> => {
        await nextTask(); // A cancelling message gets its turn.
        return !signal.aborted;
      };
      await clip(visual).pushAnimation(loaded(), bytes, name, choice, onFrame);
      signal.throwIfAborted();
    },

    async pushFrame({ visual, timeSeconds, frame }) {
      const { width, height, rgba } = frame.kind === "bitmap" ? pixels(frame.bitmap) : frame;
      clip(visual).pushFrame(loaded(), width, height, rgba, timeSeconds);
    },

    async encodeClip(params) {
      const frames = clip(params.visual);
      clips.delete(params.visual);
      keep(await loaded().clip(frames, params.visualTokens), params);
    },

    async encodeFrame({ live, timeSeconds, windowSeconds, frame, visualTokens }) {
      const { width, height, rgba } = pixels(frame);
      const encoded = await loaded().encodeFrame(width, height, rgba, timeSeconds, visualTokens);
      const frames = [...(lives.get(live) ?? []), encoded];
      const old = frames.findIndex((frame) => frame.timeSeconds > timeSeconds - windowSeconds);
      for (const frame of frames.splice(0, old)) frame.free();
      lives.set(live, frames);
      return frames.map((frame) => frame.timeSeconds);
    },

    async mergeFrames(params) {
      const frames = new (module().FrameBuffer)();
      for (const frame of lives.get(params.live) ?? []) frames.push(frame);
      keep(await loaded().mergeFrames(frames, params.visualTokens), params, false);
    },

    async openSession({ session, options }) {
      sessions.set(session, loaded().session(options));
    },

    async fork({ session, from }) {
      sessions.set(session, await conversation(from).fork());
    },

    async restart({ session, options, turns }) {
      const past = new (module().Past)();
      for (const { parts, answer } of turns) past.turn(turnOf(parts), answer);
      if (!sessions.has(session)) sessions.set(session, loaded().session(options));
      await conversation(session).restart(options, past);
    },

    async rewind({ session: handle, keep }) {
      const session = conversation(handle);
      session.rewind(keep);
      return session.contextUsage();
    },

    async append({ session: handle, parts }, { signal }) {
      const session = conversation(handle);
      const appended = await session.append(turnOf(parts), async () => {
        await nextTask();
        return !signal.aborted;
      });
      if (!appended) signal.throwIfAborted();
      return session.contextUsage();
    },

    async answer({ session: handle, parts, options }, { signal, emit }) {
      const session = conversation(handle);
      const turn = turnOf(parts);
      const asked = performance.now();
      let first: number | undefined;
      const onPiece = async (text: string, logprobs: AnswerPiece["logprobs"]): Promise<boolean> => {
        if (text !== "") {
          first ??= performance.now();
          emit(logprobs ? { text, logprobs } : { text });
        }
        await nextTask(); // A cancelling message gets its turn.
        return !signal.aborted;
      };
      const usage = await session.answer(turn, options, onPiece);
      const ended = performance.now();
      signal.throwIfAborted();
      const { promptTokens, reusedTokens, completionTokens } = usage;
      const timeToFirstTokenMs = (first ?? ended) - asked;
      const measured: Usage = {
        ...usage,
        timeToFirstTokenMs,
        prefillTokensPerSecond: (1000 * (promptTokens - reusedTokens)) / timeToFirstTokenMs,
        tokensPerSecond:
          first === undefined || completionTokens < 2
            ? 0
            : (1000 * (completionTokens - 1)) / (ended - first),
      };
      return { usage: measured, context: session.contextUsage() };
    },

    async memory() {
      return { gpuBytes: loaded().gpuBytes, wasmBytes: instance?.memory.buffer.byteLength ?? 0 };
    },

    async free({ handles }) {
      for (const handle of handles) {
        for (const owners of [visuals, tokenMaps, clips, sessions] as Map<
          Handle,
          { free(): void }
        >[]) {
          owners.get(handle)?.free();
          owners.delete(handle);
        }
        for (const frame of lives.get(handle) ?? []) frame.free();
        lives.delete(handle);
      }
    },

    async dispose() {
      for (const owners of [visuals, tokenMaps, clips, sessions] as Map<
        Handle,
        { free(): void }
      >[]) {
        for (const owner of owners.values()) owner.free();
        owners.clear();
      }
      for (const frame of [...lives.values()].flat()) frame.free();
      lives.clear();
      try {
        engine?.dispose();
      } catch {
        // An instance that failed has given the device back already.
      }
      engine = undefined;
      instance = undefined;
      network = undefined;
    },
  };
}

/** What the files of a model are fetched with. */
function networkOf(
  module: Bindings,
  { source, allowedOrigins }: Calls["availability"]["params"],
): Network {
  return { module, allowedOrigins, hub: source.kind === "url" ? source.hub : undefined };
}

async function encodeImage(
  engine: bindings.Engine,
  image: SentImage,
  visualTokens: number | undefined,
): Promise<bindings.Visual> {
  switch (image.kind) {
    case "blob":
      return engine.image(await bytesOf(image.blob), image.name, visualTokens);
    case "pixels":
      return engine.pixels(image.width, image.height, image.rgba, visualTokens);
    case "bitmap": {
      const { width, height, rgba } = pixels(image.bitmap);
      return engine.pixels(width, height, rgba, visualTokens);
    }
  }
}

async function bytesOf(blob: Blob): Promise<Uint8Array> {
  if (typeof blob.arrayBuffer !== "function")
    throw new UniviError(
      "bad-request",
      "this Blob can't be read, as those of jsdom; give the bytes as a Uint8Array",
    );
  return new Uint8Array(await blob.arrayBuffer());
}

/** The pixels of a bitmap, which is spent. */
function pixels(bitmap: ImageBitmap): { width: number; height: number; rgba: Uint8ClampedArray } {
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", {
    willReadFrequently: true,
  })!;
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  try {
    return { width, height, rgba: context.getImageData(0, 0, width, height).data };
  } catch (cause) {
    throw new UniviError(
      "bad-image",
      `image: the browser doesn't let this page read its pixels: ${(cause as Error).message}; a picture of another site must be fetched with its permission (crossorigin)`,
      { cause },
    );
  }
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
