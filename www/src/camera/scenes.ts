/**
 * Whether a scene has changed, by its pictures alone.
 *
 * A picture is cut into 16 x 16 fields. It shows the scene of before where the mean colour of no
 * field has moved by more than 3 % since the scene began. Noise goes out in the mean; what changes
 * slowly is noticed once it has come so far.
 */

/** Fields along each side. */
const FIELDS = 16;
/** How far red, green or blue of a field may move, of 255. */
const MOST = 8;

/** The scenes that the frames of a window show. */
export class Scenes {
  /** How the scene began. */
  #reference: Float32Array | undefined;
  #scene = 0;
  /** The scene of each frame by its time; none where it came with a change. */
  readonly #frames = new Map<number, number | undefined>();

  /** Takes a frame of the window, and the picture that was there once it was encoded. */
  add(time: number, picture: HTMLCanvasElement): void {
    const means = meansOf(picture);
    const same = this.#reference !== undefined && isLike(this.#reference, means);
    if (!same) {
      this.#reference = means;
      this.#scene += 1;
    }
    // The frame is a moment older than the picture: at a change it may show what was before.
    this.#frames.set(time, same ? this.#scene : undefined);
  }

  /** Forgets the frames that have left the window. */
  keep(times: readonly number[]): void {
    for (const time of this.#frames.keys()) if (!times.includes(time)) this.#frames.delete(time);
  }

  /** The scene that every frame of the window shows; undefined where something has changed. */
  get still(): number | undefined {
    const [first, ...others] = this.#frames.values();
    return others.every((scene) => scene === first) ? first : undefined;
  }
}

/** The mean of red, green and blue in each field. */
function meansOf(picture: HTMLCanvasElement): Float32Array {
  const { width, height } = picture;
  const { data } = picture.getContext("2d")!.getImageData(0, 0, width, height);
  const sums = new Float32Array(FIELDS * FIELDS * 3);
  for (let y = 0, at = 0; y < height; y++) {
    const row = Math.floor((y * FIELDS) / height) * FIELDS;
    for (let x = 0; x < width; x++, at += 4) {
      const field = (row + Math.floor((x * FIELDS) / width)) * 3;
      for (let colour = 0; colour < 3; colour++) sums[field + colour]! += data[at + colour]!;
    }
  }
  const pixels = (width * height) / FIELDS ** 2;
  return sums.map((sum) => sum / pixels);
}

function isLike(one: Float32Array, other: Float32Array): boolean {
  return one.every((mean, index) => Math.abs(mean - other[index]!) <= MOST);
}
