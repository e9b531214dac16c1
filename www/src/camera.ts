/** The camera: a live view, the choice of a device, and small pictures of what the model has looked at. */
import { UniviError, type Live, type LiveStats, type Univi } from "univi";

import { byId, make } from "./dom.js";

/** A frame is looked at so often, and remembered for so long. */
const FRAMES_PER_SECOND = 1;
const WINDOW_SECONDS = 60;
/** Pictures for the list of events, in pixels. */
const STILL_PX = 224;

const panel = byId("camera", HTMLElement);
const video = byId("camera-view", HTMLVideoElement);
const choice = byId("camera-choice", HTMLSelectElement);
const status = byId("camera-status", HTMLParagraphElement);

/** A camera that is on. */
export class Camera {
  /** What was seen, by its time in seconds. */
  readonly stills = new Map<number, HTMLCanvasElement>();
  #live: Live | undefined;

  private constructor() {}

  /** Asks for a camera, and shows what it sees. Rejects with a sentence that says what to do. */
  static async open(deviceId?: string): Promise<Camera> {
    if (!navigator.mediaDevices) throw new UniviError("bad-request", "browsers give the camera only to pages that come over https");
    const wanted = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "environment" };
    const stream = await navigator.mediaDevices.getUserMedia({ video: wanted }).catch((cause: Error) => {
      const reasons: Record<string, string> = {
        NotAllowedError: "the camera was refused; allow it beside the address of this page, and press Camera again",
        NotFoundError: "there is no camera; a clip from a file does as well",
        NotReadableError: "the camera is in use by another program; close that, and press Camera again",
      };
      throw new UniviError("bad-request", reasons[cause.name] ?? `the camera can't be opened: ${cause.message}`, { cause });
    });
    video.srcObject = stream;
    await video.play();
    const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
    const current = stream.getVideoTracks()[0]?.getSettings().deviceId;
    choice.replaceChildren(...cameras.map(({ deviceId, label }, i) => make("option", { value: deviceId, selected: deviceId === current }, label || `Camera ${i + 1}`)));
    choice.hidden = cameras.length < 2;
    status.textContent = "The model has not looked yet.";
    panel.hidden = false;
    return new Camera();
  }

  /** Has `univi` watch, unless it does already. */
  watch(univi: Univi, onError: (error: unknown) => void): Live {
    this.#live ??= univi.watch(video, {
      framesPerSecond: FRAMES_PER_SECOND,
      windowSeconds: WINDOW_SECONDS,
      onFrame: (stats) => this.#keep(stats),
      onError,
    });
    return this.#live;
  }

  /** The model is another one from now on, or none. */
  forget(): void {
    this.#live?.stop();
    this.#live = undefined;
    this.stills.clear();
  }

  close(): void {
    this.forget();
    for (const track of (video.srcObject as MediaStream | null)?.getTracks() ?? []) track.stop();
    video.srcObject = null;
    panel.hidden = true;
  }

  #keep({ timesSeconds, dropped }: LiveStats): void {
    const side = Math.min(video.videoWidth, video.videoHeight);
    const still = make("canvas", { width: STILL_PX, height: STILL_PX });
    const [x, y] = [(video.videoWidth - side) / 2, (video.videoHeight - side) / 2];
    still.getContext("2d")!.drawImage(video, x, y, side, side, 0, 0, STILL_PX, STILL_PX);
    this.stills.set(timesSeconds.at(-1)!, still);
    for (const time of this.stills.keys()) if (!timesSeconds.includes(time)) this.stills.delete(time);
    const seconds = Math.round(timesSeconds.at(-1)! - timesSeconds[0]!);
    const left = dropped > 0 ? `; ${dropped} left out, since looking takes longer than a second` : "";
    status.textContent = `Watching: ${timesSeconds.length} ${timesSeconds.length === 1 ? "frame" : "frames"} of the last ${seconds} s${left}.`;
  }
}
