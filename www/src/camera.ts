/**
 * The camera: a live view, the choice of a device, and small pictures of the frames that
 * were encoded.
 */
import type { Live, LiveStats, Univi } from "univi";

import { byId, make } from "./dom.js";
import { sessionOptions, visualTokens } from "./settings.js";
import { drawSquare, type Attachment } from "./attachment.js";
import { words } from "./words/index.js";

/** Frames that are encoded per second, and how long each stays in the window. */
const FRAMES_PER_SECOND = 1;
const WINDOW_SECONDS = 60;
/** Pictures for the list of events, in pixels. */
const STILL_PX = 224;

const panel = byId("camera", HTMLElement);
const video = byId("camera-view", HTMLVideoElement);
const choice = byId("camera-choice", HTMLSelectElement);
const status = byId("camera-status", HTMLParagraphElement);

/** Why there is no camera, in words. */
export class CameraRefused extends Error {}

/** A camera that is on. */
export class Camera {
  /** The encoded frames by their times in seconds. */
  readonly stills = new Map<number, HTMLCanvasElement>();
  readonly #onFrame: () => void;
  #live: Live | undefined;
  #watchedBy: string | undefined;

  private constructor(onFrame: () => void) {
    this.#onFrame = onFrame;
  }

  /**
   * Asks for a camera, and shows what it sees; `onFrame` is called for each frame that was
   * encoded. Rejects with {@link CameraRefused}.
   */
  static async open(deviceId: string | undefined, onFrame: () => void): Promise<Camera> {
    if (!navigator.mediaDevices) throw new CameraRefused(words.cameraInsecure);
    const wanted = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "environment" };
    const stream = await navigator.mediaDevices
      .getUserMedia({ video: wanted })
      .catch((cause: Error) => {
        const reasons: Record<string, string> = {
          NotAllowedError: words.cameraRefused,
          NotFoundError: words.cameraNone,
          NotReadableError: words.cameraBusy,
        };
        throw new CameraRefused(reasons[cause.name] ?? words.cameraFails(cause.message), { cause });
      });
    video.srcObject = stream;
    await video.play();
    const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(
      ({ kind }) => kind === "videoinput",
    );
    const current = stream.getVideoTracks()[0]?.getSettings().deviceId;
    const options = cameras.map(({ deviceId, label }, i) =>
      make(
        "option",
        { value: deviceId, selected: deviceId === current },
        label || words.cameraNumber(i + 1),
      ),
    );
    choice.replaceChildren(...options);
    choice.hidden = cameras.length < 2;
    status.textContent = words.noFrameYet;
    panel.hidden = false;
    return new Camera(onFrame);
  }

  /** Has `univi` watch, unless it does already. */
  watch(univi: Univi, onError: (error: unknown) => void): Live {
    if (this.#live) return this.#live;
    const { options, key } = watchOptions();
    this.#watchedBy = key;
    this.#live = univi.watch(video, { ...options, onFrame: (stats) => this.#keep(stats), onError });
    return this.#live;
  }

  /** Starts anew where the settings change how frames are encoded. */
  settingsChanged(): void {
    if (this.#watchedBy !== undefined && this.#watchedBy !== watchOptions().key) this.forget();
  }

  /** What watches, once there is a model. */
  get live(): Live | undefined {
    return this.#live;
  }

  /** The model is another one from now on, or looks in another way, or there is none. */
  forget(): void {
    this.#live?.stop();
    this.#live = this.#watchedBy = undefined;
    this.stills.clear();
  }

  /** The stills so far, to keep. */
  async attachment(): Promise<Attachment> {
    const stills = [...this.stills].map(
      async ([time, canvas]) => [time, await blobOf(canvas)] as const,
    );
    return { kind: "live", stills: new Map(await Promise.all(stills)) };
  }

  close(): void {
    this.forget();
    for (const track of (video.srcObject as MediaStream | null)?.getTracks() ?? []) track.stop();
    video.srcObject = null;
    panel.hidden = true;
  }

  #keep({ timesSeconds, framesDropped }: LiveStats): void {
    const still = make("canvas", { width: STILL_PX, height: STILL_PX });
    const frame = make("canvas", { width: video.videoWidth, height: video.videoHeight });
    frame.getContext("2d")!.drawImage(video, 0, 0);
    drawSquare(still, frame);
    this.stills.set(timesSeconds.at(-1)!, still);
    for (const time of this.stills.keys())
      if (!timesSeconds.includes(time)) this.stills.delete(time);
    const seconds = Math.round(timesSeconds.at(-1)! - timesSeconds[0]!);
    const left = framesDropped > 0 ? `; ${words.leftOut(framesDropped)}` : "";
    status.textContent = `${words.watching(timesSeconds.length, seconds)}${left}.`;
    this.#onFrame();
  }
}

/** How the camera is watched by the settings, and the same to compare. */
function watchOptions() {
  const options = {
    framesPerSecond: FRAMES_PER_SECOND,
    windowSeconds: WINDOW_SECONDS,
    ...sessionOptions(),
    ...visualTokens(),
  };
  return { options, key: JSON.stringify(options) };
}

function blobOf(canvas: HTMLCanvasElement): Promise<Blob> {
  return new Promise((resolve, reject) => {
    canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error("no picture of the camera"))),
      "image/jpeg",
      0.85,
    );
  });
}
