/** Frames of a clip, through a `<video>` element: what every browser has. */
import type { Client, FrameChoice, Handle } from "./protocol.js";
import { UniviError } from "./error.js";

/** Where a clip comes from. A Blob may be an animated GIF or WebP, too. */
export type ClipSource = Blob | URL | HTMLVideoElement;

/** Frames that were handed over, of how many. */
export type FrameProgress = (loaded: number, total: number) => void;

/**
 * Seeks `source` to each of the chosen times and hands the frames over as `visual`.
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
  if (source instanceof Blob && ["image/gif", "image/webp"].includes(source.type)) {
    await client.call("pushAnimation", { visual, blob: source, name, choice }, { signal });
    return;
  }
  const [url, release] = clipUrl(source, name);
  const video = document.createElement("video");
  try {
    video.muted = true;
    video.playsInline = true;
    video.preload = "auto";
    video.crossOrigin = "anonymous"; // Else its pixels can't be read.
    video.src = url;
    await settled(video, "loadedmetadata", name, signal);
    if (video.videoWidth === 0 || video.duration === 0) {
      throw new UniviError("bad-video", `${name}: there are no pictures in it`);
    }
    if (!Number.isFinite(video.duration)) {
      throw new UniviError("bad-video", `${name}: its length is not known; use a recording that has ended`);
    }
    if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) await settled(video, "loadeddata", name, signal);
    const times = await client.call("frameTimes", { durationSeconds: video.duration, choice }, { signal });
    for (const [index, timeSeconds] of times.entries()) {
      // Half a millisecond late, since a frame's own time may round to just before it.
      video.currentTime = Math.min(timeSeconds + 0.0005, video.duration);
      await settled(video, "seeked", name, signal);
      const frame = await createImageBitmap(video);
      await client.call("pushFrame", { visual, timeSeconds, frame }, { signal, transfer: [frame] });
      onFrame(index + 1, times.length);
    }
  } finally {
    video.removeAttribute("src");
    video.load(); // Lets go of the decoder.
    release();
  }
}

function clipName(source: ClipSource): string {
  if (source instanceof File) return source.name;
  if (source instanceof Blob) return "clip";
  return source instanceof URL ? source.href : source.currentSrc || "video element";
}

function clipUrl(source: ClipSource, name: string): [url: string, release: () => void] {
  if (source instanceof Blob) {
    const url = URL.createObjectURL(source);
    return [url, () => URL.revokeObjectURL(url)];
  }
  if (source instanceof URL) return [source.href, () => {}];
  if (!source.currentSrc) {
    throw new UniviError("bad-video", `${name}: it has no source that can be opened a second time, as a live stream has none`);
  }
  return [source.currentSrc, () => {}];
}

/** Waits for `event`, or for the decoder to give up, or for the caller to. */
function settled(
  video: HTMLVideoElement,
  event: "loadedmetadata" | "loadeddata" | "seeked",
  name: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = (settle: () => void) => () => {
      video.removeEventListener(event, good);
      video.removeEventListener("error", bad);
      signal?.removeEventListener("abort", aborted);
      settle();
    };
    const good = finish(resolve);
    const bad = finish(() => reject(new UniviError("bad-video", `${name}: ${reason(video.error)}`)));
    const aborted = finish(() => reject(signal?.reason));
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    video.addEventListener(event, good);
    video.addEventListener("error", bad);
    signal?.addEventListener("abort", aborted);
  });
}

function reason(error: MediaError | null): string {
  if (error?.code === MediaError.MEDIA_ERR_NETWORK) return "the network failed while it was fetched";
  const said = error?.message ? ` (${error.message})` : "";
  return `this browser can't decode it as a video${said}; MP4 with H.264 and WebM with VP9 work everywhere`;
}
