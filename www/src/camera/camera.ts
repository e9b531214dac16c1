/**
 * A camera, or the screen: a live view, what is asked about it, and small pictures of the frames
 * that were encoded.
 */
import type { Live, LiveStats, Univi } from "univi";

import { type Attachment, drawSquare } from "../attachment.js";
import { announce, make } from "../dom.js";
import { sessionOptions, visualTokens } from "../settings.js";
import { cameraWords } from "../words/camera.js";
import { Captions, now, type Watched } from "./captions.js";
import * as panel from "./panel.js";
import { Scenes } from "./scenes.js";

/** Frames that are encoded per second. */
const FRAMES_PER_SECOND = 1;
/** How long each can be asked about, and while captions run: they are about what is there now. */
const WINDOW_SECONDS = 60;
const CAPTION_WINDOW_SECONDS = 5;
/** Pictures for the list of events, in pixels. */
const STILL_PX = 224;

/** What is watched: a camera, by its id where one is chosen, or what the person shares. */
export type Source = { readonly kind: "camera"; readonly deviceId?: string } | { kind: "screen" };

/** Why nothing can be watched, in words. */
export class CameraRefused extends Error {}

/** What a camera asks of the page. */
export interface CameraActions {
  /** Returns a question for captions to begin with. */
  readonly proposal: () => string;
  /** Loads the model, unless it is there; resolves to undefined where it can't be. */
  readonly ready: () => Promise<Univi | undefined>;
  /** Returns what to know of a model before captions are believed. */
  readonly caveat: (univi: Univi) => string | undefined;
  /** Says what was done, with a button that undoes it. */
  readonly offerUndo: (done: string, undo: () => void) => void;
  /** A frame was encoded. */
  readonly frame: () => void;
  /** Another camera was chosen. */
  readonly choose: (source: Source) => void;
  /** The person turns it off. */
  readonly close: () => void;
  /** It has gone away by itself; `why` says what to do. */
  readonly ended: (why: string) => void;
  /** Something else went wrong. */
  readonly failed: (error: unknown) => void;
}

/** The camera that is on. */
let current: Camera | undefined;

/** Captions stay while cameras come and go. */
const captions = new Captions({
  state: (state) => {
    panel.showState(state);
    current?.showFigures();
    if (state === "stopped") current?.settingsChanged();
  },
  coming: panel.showComing,
  added: (caption, picture) => panel.showAdded(caption, picture, captions.all.length),
  extended: panel.showExtended,
  failed: (error) => current?.actions.failed(error),
});

panel.wire(
  captions,
  () => current?.caption(),
  (done, undo) => current?.actions.offerUndo(done, undo),
);
panel.close.addEventListener("click", () => current?.actions.close());
panel.choice.addEventListener("change", () =>
  current?.actions.choose({ kind: "camera", deviceId: panel.choice.value }),
);

/** A camera that is on, or a screen that is shared. */
export class Camera implements Watched {
  readonly actions: CameraActions;
  readonly source: Source;
  /** The encoded frames by their times in seconds. */
  readonly stills = new Map<number, HTMLCanvasElement>();
  readonly #scenes = new Scenes();
  #newest: Watched["newest"];
  #live: Live | undefined;
  #univi: Univi | undefined;
  #watchedBy: string | undefined;

  private constructor(source: Source, actions: CameraActions) {
    this.source = source;
    this.actions = actions;
  }

  /** Asks for a camera, or a screen, and shows it. Rejects with {@link CameraRefused}. */
  static async open(source: Source, actions: CameraActions): Promise<Camera> {
    const stream = await streamOf(source);
    panel.video.srcObject = stream;
    await panel.video.play();
    const opened = new Camera(source, actions);
    current = opened;
    const [track] = stream.getVideoTracks();
    track?.addEventListener("ended", () => opened.end());
    panel.propose(actions.proposal());
    await offerCameras(source, track);
    opened.translate();
    panel.panel.hidden = false;
    announce(source.kind === "screen" ? cameraWords().screenOn : cameraWords().cameraOn);
    return opened;
  }

  /** Has `univi` watch, unless it does already. */
  watch(univi: Univi): Live {
    this.#univi = univi;
    if (this.#live) return this.#live;
    const { options, key } = watchOptions();
    this.#watchedBy = key;
    const live = univi.watch(panel.video, {
      ...options,
      onFrame: (stats) => this.#keep(stats),
      onError: (error) => {
        if (live.state === "ended") this.end();
        else this.actions.failed(error);
      },
    });
    this.#live = live;
    this.#showNote();
    return live;
  }

  /** Starts anew where the settings, or captions, change how frames are encoded. */
  settingsChanged(): void {
    const univi = this.#univi;
    if (!univi || this.#watchedBy === undefined || this.#watchedBy === watchOptions().key) return;
    this.forget();
    this.watch(univi);
  }

  /** What watches, once there is a model. */
  get live(): Live | undefined {
    return this.#live;
  }

  get newest(): Watched["newest"] {
    return this.#newest;
  }

  get still(): number | undefined {
    return this.#scenes.still;
  }

  /** A screen is shared so that something else can be looked at. */
  get whileHidden(): boolean {
    return this.source.kind === "screen";
  }

  /** Begins captions. */
  caption(): void {
    const begin = async () => {
      const univi = await this.actions.ready();
      if (!univi || current !== this) return false;
      this.settingsChanged();
      this.watch(univi);
      return true;
    };
    void captions.start(this, panel.captionQuestion, begin);
  }

  /** Stops captions. Returns whether there were any. */
  stopCaptions(): boolean {
    const { running } = captions;
    captions.stop();
    return running;
  }

  /** Whether a person's own question is being answered, which captions wait for. */
  set asking(asking: boolean) {
    captions.held = asking;
  }

  /** The model is another one from now on, or encodes in another way, or there is none. */
  forget(): void {
    this.#live?.stop();
    this.#live = this.#watchedBy = this.#newest = this.#univi = undefined;
    this.stills.clear();
    this.#scenes.keep([]);
  }

  /** The stills so far, to keep. */
  async attachment(): Promise<Attachment> {
    const stills = [...this.stills].map(
      async ([time, canvas]) => [time, await blobOf(canvas)] as const,
    );
    return { kind: "live", stills: new Map(await Promise.all(stills)) };
  }

  /** It has gone away by itself. */
  end(): void {
    if (current !== this) return;
    const { ended, screenEnded } = cameraWords();
    this.actions.ended(this.source.kind === "screen" ? screenEnded : ended);
  }

  close(): void {
    if (current === this) current = undefined;
    captions.stop();
    this.forget();
    const stream = panel.video.srcObject as MediaStream | null;
    for (const track of stream?.getTracks() ?? []) track.stop();
    panel.video.srcObject = null;
    panel.panel.hidden = true;
  }

  /** Says everything in the language of the page. */
  translate(): void {
    panel.translate();
    const { view, screenView, noFrameYet } = cameraWords();
    const screen = this.source.kind === "screen";
    panel.panel.classList.toggle("of-screen", screen);
    panel.video.setAttribute("aria-label", screen ? screenView : view);
    if (this.#newest === undefined) panel.status.textContent = noFrameYet;
    else this.#showStatus();
    this.#showNote();
    this.showFigures();
  }

  #showStatus(): void {
    if (!this.#live) return;
    const { timesSeconds, framesDropped } = this.#live.stats;
    const seconds = Math.round(timesSeconds.at(-1)! - timesSeconds[0]!);
    const { leftOut, watching } = cameraWords();
    const left = framesDropped > 0 ? `; ${leftOut(framesDropped)}` : "";
    panel.status.textContent = `${watching(timesSeconds.length, seconds)}${left}.`;
  }

  /** Shows how many answers captions had, and how many frames there were for them. */
  showFigures(): void {
    if (this.#live && captions.running) panel.showFigures(captions.figures, this.#live.stats);
  }

  #showNote(): void {
    panel.showCaveat(this.#univi && this.actions.caveat(this.#univi));
    const { note, middle } = cameraWords();
    const window = note(windowSeconds());
    panel.note.textContent = this.source.kind === "screen" ? `${window} ${middle}` : window;
  }

  #keep({ timesSeconds, encodeMs }: LiveStats): void {
    const { video } = panel;
    const still = make("canvas", { width: STILL_PX, height: STILL_PX });
    still.getContext("2d", { willReadFrequently: true }); // By the scenes.
    const frame = make("canvas", { width: video.videoWidth, height: video.videoHeight });
    frame.getContext("2d")!.drawImage(video, 0, 0);
    drawSquare(still, frame);
    const time = timesSeconds.at(-1)!;
    this.stills.set(time, still);
    for (const time of this.stills.keys())
      if (!timesSeconds.includes(time)) this.stills.delete(time);
    this.#scenes.add(time, still);
    this.#scenes.keep(timesSeconds);
    this.#newest = { picture: still, at: now() - encodeMs };
    this.#showStatus();
    this.showFigures();
    captions.notice();
    this.actions.frame();
  }
}

async function streamOf(source: Source): Promise<MediaStream> {
  const said = cameraWords();
  const { mediaDevices } = navigator;
  if (!mediaDevices) throw new CameraRefused(said.insecure);
  if (source.kind === "screen")
    return mediaDevices.getDisplayMedia({ video: true, audio: false }).catch((cause: Error) => {
      const refused = cause.name === "NotAllowedError";
      throw new CameraRefused(refused ? said.screenRefused : said.screenFails(cause.message), {
        cause,
      });
    });
  const { deviceId } = source;
  const wanted = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "environment" };
  return mediaDevices.getUserMedia({ video: wanted }).catch((cause: Error) => {
    const reasons: Record<string, string> = {
      NotAllowedError: said.refused,
      NotFoundError: said.none,
      OverconstrainedError: said.none, // So WebKit says it; the camera that was chosen may be gone, too.
      NotReadableError: said.busy,
    };
    throw new CameraRefused(reasons[cause.name] ?? said.fails(cause.message), { cause });
  });
}

/** Offers the cameras that there are, where there are several. */
async function offerCameras(source: Source, track: MediaStreamTrack | undefined): Promise<void> {
  const all = await navigator.mediaDevices.enumerateDevices();
  const cameras = all.filter(({ kind }) => kind === "videoinput");
  const current = track?.getSettings().deviceId;
  const options = cameras.map(({ deviceId, label }, i) =>
    make(
      "option",
      { value: deviceId, selected: deviceId === current },
      label || cameraWords().cameraNumber(i + 1),
    ),
  );
  panel.choice.replaceChildren(...options);
  panel.choice.hidden = source.kind === "screen" || cameras.length < 2;
}

function windowSeconds(): number {
  return captions.running ? CAPTION_WINDOW_SECONDS : WINDOW_SECONDS;
}

/** How the camera is watched by the settings, and the same to compare. */
function watchOptions() {
  const options = {
    framesPerSecond: FRAMES_PER_SECOND,
    windowSeconds: windowSeconds(),
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
