/** Frames of a clip on their way to the model. */
import { openDecoded } from "./clip/decoded.js";
import { openElement } from "./clip/element.js";
import { UniviError } from "./error.js";
import type { FramePicture, Handle } from "./calls.js";
import type { Client } from "./rpc.js";
import type { FrameChoice } from "./types.js";
import { isA, runtime } from "./runtime.js";

/** Where a clip comes from. A Blob may be an animated GIF or WebP, too. */
export type ClipSource = Blob | URL | HTMLVideoElement;

/** Frames that were handed over, of how many. */
export type FrameProgress = (loaded: number, total: number) => void;

/** A clip that is being read. */
export interface OpenClip {
  readonly durationSeconds: number;
  /**
   * The frames that are shown at these times, which rise. Whoever asks for one closes it or hands
   * it on.
   */
  frames(timesSeconds: readonly number[]): AsyncIterable<FramePicture>;
  /** Lets go of the source and the decoder. */
  close(): void;
}

/**
 * Decodes the chosen frames of `source` and hands them over as `visual`.
 *
 * A `HTMLVideoElement` of the page is left alone: its source is opened a second time.
 */
export async function pushFrames(
  client: Client,
  visual: Handle,
  source: ClipSource,
  choice: FrameChoice,
  signal: AbortSignal | undefined,
  onFrame: FrameProgress,
): Promise<void> {
  const name = clipName(source);
  if (source instanceof URL) source = (await runtime.file(source)) ?? source;
  if (source instanceof Blob && ["image/gif", "image/webp"].includes(source.type)) {
    await client.call("pushAnimation", { visual, blob: source, name, choice }, { signal });
    return;
  }
  const clip = await openClip(source, name, signal);
  try {
    const times = await client.call(
      "frameTimes",
      { durationSeconds: clip.durationSeconds, choice },
      { signal },
    );
    let loaded = 0;
    for await (const frame of clip.frames(times)) {
      const timeSeconds = times[loaded]!;
      await client.call(
        "pushFrame",
        { visual, timeSeconds, frame },
        { signal, transfer: [frame.kind === "bitmap" ? frame.bitmap : frame.rgba.buffer] },
      );
      loaded += 1;
      onFrame(loaded, times.length);
    }
  } finally {
    clip.close();
  }
}

/**
 * Opens a clip, frame by frame where that can be, else as the browser plays it, which has the last
 * word on what is a video.
 */
async function openClip(
  source: ClipSource,
  name: string,
  signal: AbortSignal | undefined,
): Promise<OpenClip> {
  const bytes = isA("HTMLVideoElement", source)
    ? await elementSource(source as HTMLVideoElement, name)
    : (source as Blob | URL);
  const decoded = await openDecoded(bytes, name, signal);
  if (decoded) return decoded;
  if (!globalThis.document)
    throw new UniviError(
      "bad-video",
      `${name}: it is neither an animated GIF nor WebP, nor a video that WebCodecs decodes here; in Node, Deno and Bun, the npm package @napi-rs/webcodecs brings that`,
    );
  return openElement(bytes, name, signal);
}

async function elementSource(video: HTMLVideoElement, name: string): Promise<Blob | URL> {
  try {
    const url = new URL(video.currentSrc);
    return url.protocol === "blob:" ? await (await fetch(url)).blob() : url;
  } catch (cause) {
    const why = "it has no source that can be opened a second time, as a live stream has none";
    throw new UniviError("bad-video", `${name}: ${why}`, { cause });
  }
}

function clipName(source: ClipSource): string {
  if (source instanceof File) return source.name;
  if (source instanceof Blob) return "clip";
  return source instanceof URL ? source.href : source.currentSrc || "video element";
}
