/** Pictures and clips that the page brings along, for a first question. */
import { make } from "./dom.js";
import type { Language } from "./words/index.js";

/** A line of `samples/index.json`. */
interface Sample {
  /** The picture or clip, relative to the page. */
  readonly file: string;
  /** A small picture of it. */
  readonly still: string;
  /** What it shows, in words of each language. */
  readonly alt: Readonly<Record<Language, string>>;
  /** What may be asked. */
  readonly questions: readonly string[];
}

/**
 * A row of samples; `show` gets the one that is chosen, as a file on its way, and what may be asked
 * about it.
 *
 * Small pictures of them are fetched when they come into view, and they themselves when they are
 * chosen.
 */
export async function sampleRow(
  language: Language,
  show: (file: Promise<File>, questions: readonly string[]) => void,
): Promise<HTMLElement[]> {
  const response = await fetch("samples/index.json").catch(() => undefined);
  if (!response?.ok) return []; // A page without samples is still a page.
  const samples = (await response.json()) as readonly Sample[];
  return samples.map((sample) => {
    const { file, still, alt, questions } = sample;
    const picture = make("img", {
      src: `samples/${still}`,
      alt: alt[language],
      width: 96,
      height: 96,
      loading: "lazy",
    });
    const button = make(
      "button",
      { type: "button", className: isClip(file) ? "sample clip" : "sample" },
      picture,
    );
    button.addEventListener("click", () => show(open(file), questions));
    return make("li", {}, button);
  });
}

async function open(name: string): Promise<File> {
  const response = await fetch(`samples/${name}`);
  if (!response.ok) throw new Error(`samples/${name}: ${response.status}`);
  const type = isClip(name) ? "video/webm" : "image/png";
  return new File([await response.blob()], name, { type });
}

function isClip(file: string): boolean {
  return file.endsWith(".webm");
}
