/**
 * A clip through WebCodecs: every frame is the one that is shown at its time, and nothing is
 * guessed of the clip's length.
 */
import { UniviError } from "../error.js";
import type { FramePicture } from "../calls.js";
import { HEAD_BYTES } from "../media-type.js";
import { runtime } from "../runtime.js";
import type { OpenClip } from "./open-clip.js";
import type { VideoSample, VideoSampleSink } from "./demuxer.js";
import { bytesOf } from "./bytes.js";
import { readEdits } from "./edits.js";
import { segmentEnd, withoutCutBlock } from "./matroska.js";
import { ROUNDING_SECONDS, trackTiming } from "./timing.js";

/**
 * How often a transfer that broke off is taken up again, for the whole clip, and how long is waited
 * before.
 */
const RETRIES = 4;
const RETRY_SECONDS = 1;

/** What came of opening a clip. */
export interface Decoded {
  /** Absent where its container or codec is none that is decoded here. */
  readonly clip?: OpenClip;
  /** Its codec, where the container says it. */
  readonly codec?: string;
}

/** Codecs as people call them. */
const CODECS: Readonly<Record<string, string>> = {
  avc: "H.264",
  hevc: "HEVC (H.265)",
  vp8: "VP8",
  vp9: "VP9",
  av1: "AV1",
};

/**
 * Opens `source`.
 *
 * Throws `io` where a server says no, or the reason of an aborted `signal`.
 */
export async function openDecoded(
  source: Blob | URL,
  name: string,
  signal: AbortSignal | undefined,
): Promise<Decoded> {
  await runtime.prepareClips();
  if (!("VideoDecoder" in globalThis)) return {}; // Browsers give it to secure pages only.
  let input: { dispose(): void } | undefined;
  let codec: string | undefined;
  const undecoded = () => (codec === undefined ? {} : { codec });
  const sleep = runtime.stayAwake();
  const close = () => {
    sleep();
    signal?.removeEventListener("abort", close);
    input?.dispose(); // Whatever waits for it rejects, and requests end.
  };
  try {
    const demuxer = await import("./demuxer.js");
    const { BlobSource, Input, MATROSKA, MP4, MPEG_TS, QTFF, UrlSource, WEBM } = demuxer;
    signal?.throwIfAborted();
    const partOf = bytesOf(source, signal);
    const head = await partOf(0, HEAD_BYTES);
    signal?.throwIfAborted();
    const bytes =
      source instanceof Blob
        ? new BlobSource(isCut(head, source.size) ? await withoutCutBlock(source, head) : source)
        : new UrlSource(source, requests(name));
    // Playlists are not among the formats: they make requests of their own.
    const opened = new Input({ source: bytes, formats: [MP4, QTFF, WEBM, MATROSKA, MPEG_TS] });
    input = opened;
    signal?.addEventListener("abort", close);
    const track = await opened.getPrimaryVideoTrack();
    const known = await track?.getCodec();
    const id = known ?? (await track?.getInternalCodecId());
    if (id !== undefined && id !== null) codec = CODECS[String(id)] ?? String(id);
    if (!track || !(await track.canDecode())) {
      close();
      return undecoded();
    }
    const sink = new demuxer.VideoSampleSink(track);
    // Some decoders do not know of pixels that are no squares; the container does.
    const display = {
      width: await track.getDisplayWidth(),
      height: await track.getDisplayHeight(),
    };
    const format = await opened.getFormat();
    const alone = (await opened.getTracks()).length === 1;
    const length = source instanceof Blob ? source.size : await bytes.getSizeOrNull();
    const ends = alone && (format === MATROSKA || format === WEBM) && !isCut(head, length);
    const isMp4 = format === MP4 || format === QTFF;
    const { timing, trackSeconds } = await trackTiming(
      track,
      new demuxer.EncodedPacketSink(track),
      {
        name,
        storesDurations: isMp4,
        edits: isMp4 ? await readEdits(partOf, head, track.id) : undefined,
        endSeconds: ends ? ((await track.getDurationFromMetadata()) ?? undefined) : undefined,
      },
    );
    // A decoder may fail on what it has promised to decode.
    const first = await sink.getSample(trackSeconds(0) + ROUNDING_SECONDS);
    if (!first) throw new Error("it has no first frame");
    first.close();
    const clip: OpenClip = {
      timing,
      async *frames(timesSeconds) {
        let index = 0;
        try {
          const moments = timesSeconds.map((s) => trackSeconds(s) + ROUNDING_SECONDS);
          for await (const sample of shown(sink, moments)) {
            yield await picture(sample, display);
            index += 1;
          }
        } catch (cause) {
          signal?.throwIfAborted();
          if (cause instanceof UniviError) throw cause;
          const why = `its picture at ${timesSeconds[index]} s can't be decoded (${(cause as Error).message}); is the file whole?`;
          throw new UniviError("bad-video", `${name}: ${why}`, { cause });
        }
      },
      close,
    };
    return { clip, ...undecoded() };
  } catch (error) {
    close();
    signal?.throwIfAborted();
    if (error instanceof UniviError) throw error;
    return undecoded();
  }
}

/**
 * The frames that are shown at `moments`, in seconds of the track; whoever asks for one closes it.
 */
async function* shown(
  sink: VideoSampleSink,
  moments: readonly number[],
): AsyncGenerator<VideoSample, void> {
  let index = 0;
  for await (const sample of sink.samplesAtTimestamps(moments)) {
    if (!sample) break;
    index += 1;
    yield sample;
  }
  // A recording that has no index, or a damaged one, can't be searched: all of its frames are gone
  // through.
  let previous: VideoSample | undefined;
  try {
    if (index < moments.length) {
      for await (const sample of sink.samples()) {
        for (; previous && index < moments.length && moments[index]! < sample.timestamp; index++)
          yield previous.clone();
        previous?.close();
        previous = sample;
        if (index === moments.length) return;
      }
    }
    for (; index < moments.length; index++) {
      if (!previous || moments[index]! > previous.timestamp + previous.duration + ROUNDING_SECONDS)
        throw new Error("it is missing");
      yield previous.clone();
    }
  } finally {
    previous?.close();
  }
}

/** Pixels of what is displayed. */
interface Size {
  readonly width: number;
  readonly height: number;
}

/** A frame as it is displayed, upright; it is closed. */
async function picture(sample: VideoSample, display: Size): Promise<FramePicture> {
  try {
    if (!("OffscreenCanvasRenderingContext2D" in globalThis))
      return await displayed(sample, display);
    const canvas = new OffscreenCanvas(sample.displayWidth, sample.displayHeight);
    sample.draw(canvas.getContext("2d")!, 0, 0);
    return { kind: "bitmap", bitmap: canvas.transferToImageBitmap() };
  } finally {
    sample.close();
  }
}

/** The same without a canvas: each pixel of the display is the nearest one of the frame. */
async function displayed(sample: VideoSample, { width, height }: Size): Promise<FramePicture> {
  const { rotation, flip, visibleRect } = sample;
  const bytes = new Uint8Array(sample.allocationSize({ format: "RGBA" }));
  await sample.copyTo(bytes, { format: "RGBA" });
  const coded = new Uint32Array(bytes.buffer);
  const pixels = new Uint32Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      // Where it is shown, from 0 to 1, and where it stands in the frame.
      const [u, v] = [((flip ? width - 1 - x : x) + 0.5) / width, (y + 0.5) / height];
      const [s, t] = ({ 0: [u, v], 90: [v, 1 - u], 180: [1 - u, 1 - v], 270: [1 - v, u] } as const)[
        rotation
      ];
      const [column, row] = [Math.floor(s * visibleRect.width), Math.floor(t * visibleRect.height)];
      pixels[y * width + x] = coded[row * visibleRect.width + column]!;
    }
  }
  return { kind: "pixels", width, height, rgba: new Uint8ClampedArray(pixels.buffer) };
}

/** Whether a Matroska file of `length` bytes ends before its segment does. */
function isCut(head: Uint8Array, length: number | null): boolean {
  const end = segmentEnd(head);
  return end !== undefined && length !== null && end > length;
}

/** How a server is asked, and what is made of its answers. */
function requests(name: string) {
  let retries = RETRIES;
  return {
    fetchFn: async (url: RequestInfo | URL, init?: RequestInit): Promise<Response> => {
      let response: Response;
      try {
        response = await fetch(url, init);
      } catch (cause) {
        throw new UniviError(
          "io",
          `${name}: the server can't be reached, or it lets no other site read it: ${(cause as Error).message}`,
          { cause },
        );
      }
      if (!response.ok)
        throw new UniviError(
          "io",
          `${name}: the server answered ${response.status}; is the address right?`,
        );
      return response;
    },
    getRetryDelay: (_: number, error: unknown) =>
      error instanceof UniviError || retries-- === 0 ? null : RETRY_SECONDS,
    handleUnhandledError: () => {}, // Who reads there next hears of it.
  };
}
