/** A clip through a `<video>` element: for what only the browser itself can open. */
import { UniviError } from "../error.js";
import type { OpenClip } from "./open-clip.js";
import { ROUNDING_SECONDS } from "./timing.js";

/** No other picture comes so long after a seek: it is the same one. */
const SAME_PICTURE_MS = 500;

/**
 * Opens `source`, or throws `bad-video`, or the reason of an aborted `signal`. `codec` is named
 * where the browser can't decode it.
 */
export async function openElement(
  source: Blob | URL,
  name: string,
  codec: string | undefined,
  signal: AbortSignal | undefined,
): Promise<OpenClip> {
  const url = source instanceof Blob ? URL.createObjectURL(source) : source.href;
  const video = document.createElement("video");
  const close = () => {
    video.removeAttribute("src");
    video.load(); // Lets go of the decoder.
    if (source instanceof Blob) URL.revokeObjectURL(url);
  };
  const settled = (event: SettlingEvent) => settlement(video, event, name, codec, signal);
  try {
    video.muted = true;
    video.playsInline = true;
    video.preload = "auto";
    video.crossOrigin = "anonymous"; // Else its pixels can't be read.
    video.src = url;
    await settled("loadedmetadata");
    if (video.videoWidth === 0 || video.duration === 0) {
      throw new UniviError("bad-video", `${name}: there are no pictures in it`);
    }
    if (!Number.isFinite(video.duration)) {
      throw new UniviError(
        "bad-video",
        `${name}: its length is not known; use a recording that has ended`,
      );
    }
    if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) await settled("loadeddata");
  } catch (error) {
    close();
    throw error;
  }
  return {
    // How often its frames come is not known.
    timing: { firstSeconds: [], lastSeconds: 0, endSeconds: video.duration },
    async *frames(timesSeconds) {
      for (const timeSeconds of timesSeconds) {
        const shown = nextPicture(video);
        // A little late, since a frame's own time may round to just before it.
        video.currentTime = Math.min(timeSeconds + ROUNDING_SECONDS, video.duration);
        await settled("seeked");
        await Promise.race([shown, sleep(SAME_PICTURE_MS)]);
        yield { kind: "bitmap", bitmap: await createImageBitmap(video) };
      }
    },
    close,
  };
}

/**
 * Resolves when another picture is shown: a browser that is busy says "seeked" before. Where it
 * stays the same one, none is.
 */
function nextPicture(video: HTMLVideoElement): Promise<void> {
  return new Promise((resolve) => video.requestVideoFrameCallback?.(() => resolve()));
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Events that follow a change of the source or the time. */
type SettlingEvent = "loadedmetadata" | "loadeddata" | "seeked";

/** Waits for `event`, or for the decoder to give up, or for the caller to. */
function settlement(
  video: HTMLVideoElement,
  event: SettlingEvent,
  name: string,
  codec: string | undefined,
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
    const bad = finish(() =>
      reject(new UniviError("bad-video", `${name}: ${reason(video.error, codec)}`)),
    );
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

function reason(error: MediaError | null, codec: string | undefined): string {
  if (error?.code === MediaError.MEDIA_ERR_NETWORK)
    return "the network failed while it was fetched";
  const said = error?.message ? ` (${error.message})` : "";
  const what = codec ? `its codec, ${codec}` : "it as a video";
  return `this browser can't decode ${what}${said}; MP4 with H.264 and WebM with VP9 work everywhere`;
}
