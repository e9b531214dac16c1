/** Pictures and clips that the page brings along, for a first question. */
import { make } from "./dom.js";

/** A line of `samples/index.json`. */
interface Sample {
  /** The picture or clip, relative to the page. */
  readonly file: string;
  /** A still of a clip. */
  readonly still?: string;
  /** What it shows, in words. */
  readonly alt: string;
  /** What may be asked. */
  readonly questions: readonly string[];
}

/**
 * A row of samples; `show` gets the one that is chosen, as a file, and what may be asked about it.
 *
 * They are fetched when they come into view, and a clip itself when it is chosen.
 */
export async function sampleRow(show: (file: File, questions: readonly string[]) => void): Promise<HTMLElement[]> {
  const response = await fetch("samples/index.json").catch(() => undefined);
  if (!response?.ok) return []; // A page without samples is still a page.
  const samples = (await response.json()) as readonly Sample[];
  return samples.map((sample) => {
    const { file, still = file, alt, questions } = sample;
    const picture = make("img", { src: `samples/${still}`, alt, width: 96, height: 96, loading: "lazy" });
    const button = make("button", { type: "button", className: still === file ? "sample" : "sample clip" }, picture);
    button.addEventListener("click", () => void open(file).then((opened) => show(opened, questions)));
    return make("li", {}, button);
  });
}

async function open(name: string): Promise<File> {
  const response = await fetch(`samples/${name}`);
  const type = name.endsWith(".webm") ? "video/webm" : "image/png";
  return new File([await response.blob()], name, { type });
}
