/** Frames of a clip on their way to the model. */
import { localContent, shortAddress } from "./address.js";
import type { Handle } from "./calls.js";
import { openDecoded } from "./clip/decoded.js";
import { openElement } from "./clip/element.js";
import { firstBytes } from "./clip/bytes.js";
import type { OpenClip } from "./clip/open-clip.js";
import { openPictures } from "./clip/pictures.js";
import { UniviError } from "./error.js";
import { asClipFile, type MediaFile, mediaFile } from "./media.js";
import { formatFacts, mediaFormat } from "./media-type.js";
import type { VisualOptions } from "./parts.js";
import type { Client } from "./rpc.js";
import { isA } from "./runtime.js";
import type { ClipMeasure, ClipTiming, FrameChoice } from "./types.js";

/** Frames that were handed over, of how many. */
export type FrameProgress = (loaded: number, total: number) => void;

/** Where a clip comes from, once that is known. */
type ClipFile = MediaFile | URL | HTMLVideoElement;

/** A clip that was opened; an animation that UniVi decodes itself stays a file. */
type Opened = { readonly clip: OpenClip } | { readonly animation: MediaFile };

/**
 * Decodes the chosen frames of `source` and hands them over as `visual`.
 *
 * An element of the page is left alone: its source is opened a second time.
 */
export async function pushFrames(
  client: Client,
  visual: Handle,
  source: ClipFile,
  choice: FrameChoice,
  signal: AbortSignal | undefined,
  onFrame: FrameProgress,
): Promise<void> {
  const opened = await openClip(client, source, signal);
  if ("animation" in opened) {
    const { blob, name } = opened.animation;
    await client.call("pushAnimation", { visual, blob, name, choice }, { signal });
    return;
  }
  const { clip } = opened;
  try {
    const times = await client.call("frameTimes", { timing: clip.timing, choice }, { signal });
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

/** When the frames of files are shown: read once, however often a file is measured. */
const timings = new WeakMap<Blob, ClipTiming>();

/** Finds out what encoding a clip would come to. No more than its first frame is decoded. */
export async function measureClip(
  client: Client,
  source: ClipFile,
  choice: FrameChoice,
  { visualTokens, signal }: Pick<VisualOptions, "visualTokens" | "signal">,
): Promise<ClipMeasure> {
  const blob = "blob" in source ? source.blob : undefined;
  let timing = blob && timings.get(blob);
  if (!timing) {
    const opened = await openClip(client, source, signal);
    if ("animation" in opened)
      throw new UniviError(
        "bad-request",
        `${opened.animation.name}: frames of an animated GIF or WebP are found as it is decoded, so it can't be measured`,
      );
    opened.clip.close();
    timing = opened.clip.timing;
    if (blob) timings.set(blob, timing);
  }
  const timesSeconds = await client.call("frameTimes", { timing, choice }, { signal });
  const budget = visualTokens === undefined ? {} : { visualTokens };
  const counted = { frames: timesSeconds.length, ...budget };
  const tokens = await client.call("clipTokens", counted, { signal });
  return { timesSeconds, tokens, durationSeconds: timing.endSeconds };
}

async function openClip(
  client: Client,
  source: ClipFile,
  signal: AbortSignal | undefined,
): Promise<Opened> {
  const found = isA("HTMLVideoElement", source)
    ? await elementSource(source as HTMLVideoElement)
    : (source as MediaFile | URL);
  const name = found instanceof URL ? shortAddress(found) : found.name;
  let picture = asPicture(found);
  const decoded = picture
    ? undefined
    : await openDecoded(found instanceof URL ? found : found.blob, name, signal);
  // An address does not say what is there.
  if (found instanceof URL && !decoded?.clip) picture = await pictureAt(client, found, signal);
  if (picture?.format === "gif" || picture?.format === "webp") return { animation: picture };
  if (picture) return { clip: await openPictures(picture, signal) };
  return { clip: decoded?.clip ?? (await openPlayed(found, name, decoded?.codec, signal)) };
}

/** A clip as the browser plays it, which has the last word on what is a video. */
async function openPlayed(
  source: MediaFile | URL,
  name: string,
  codec: string | undefined,
  signal: AbortSignal | undefined,
): Promise<OpenClip> {
  if (globalThis.document)
    return openElement(source instanceof URL ? source : source.blob, name, codec, signal);
  const what = codec
    ? `its codec, ${codec}, is none`
    : "it is no animated GIF or WebP, and no video";
  throw new UniviError(
    "bad-video",
    `${name}: ${what} that WebCodecs decodes here; in Node, Deno and Bun, the npm package @napi-rs/webcodecs brings that`,
  );
}

function asPicture(source: MediaFile | URL): MediaFile | undefined {
  const format = source instanceof URL ? undefined : source.format;
  return format && formatFacts(format).kind === "picture" ? (source as MediaFile) : undefined;
}

/** The picture that lies at an address; `undefined` where it is something else. */
async function pictureAt(
  client: Client,
  url: URL,
  signal: AbortSignal | undefined,
): Promise<MediaFile | undefined> {
  const head = await firstBytes(url, signal);
  const format = mediaFormat(head);
  if (!format || formatFacts(format).kind !== "picture") return undefined;
  const blob = await client.call("fetchFile", { url: url.href }, { signal });
  return asClipFile(await mediaFile(blob, shortAddress(url)));
}

/** The source of an element, which has to be one that can be opened a second time. */
async function elementSource(video: HTMLVideoElement): Promise<MediaFile | URL> {
  const name = shortAddress(video.currentSrc) || "video element";
  try {
    const url = new URL(video.currentSrc);
    const local = await localContent(url);
    return local ? await mediaFile(local, name) : url;
  } catch (cause) {
    const why = "it has no source that can be opened a second time, as a live stream has none";
    throw new UniviError("bad-video", `${name}: ${why}`, { cause });
  }
}
