/** Captions as files to take away. */

/** What was said of a stretch of time. */
export interface Caption {
  readonly text: string;
  /** When the picture was there that it begins with, in milliseconds since 1970. */
  readonly from: number;
  /** Until when it holds. */
  to: number;
}

/** Returns the captions as WebVTT, whose time begins with the first of them. */
export function asWebVtt(captions: readonly Caption[]): string {
  const began = captions[0]?.from ?? 0;
  const cues = captions.map(({ text, from, to }, index) => {
    const times = `${timestamp(from - began)} --> ${timestamp(to - began)}`;
    return `${index + 1}\n${times}\n${escaped(text)}\n`;
  });
  return ["WEBVTT\n", `NOTE Began at ${new Date(began).toISOString()}\n`, ...cues].join("\n");
}

/** Returns the captions as text, a line each, by the clock. */
export function asText(captions: readonly Caption[]): string {
  const clock = (time: number) => {
    const at = new Date(time);
    const two = (value: number) => String(value).padStart(2, "0");
    const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    return `${day} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":")}`;
  };
  return captions
    .map(({ text, from, to }) => `${clock(from)} - ${clock(to)}  ${text.replace(/\s+/g, " ")}\n`)
    .join("");
}

/** "00:01:02.345" */
function timestamp(ms: number): string {
  const whole = Math.round(ms);
  const [hours, minutes, seconds] = [3_600_000, 60_000, 1000].map((unit, index) =>
    String(Math.floor(whole / unit) % (index === 0 ? Infinity : 60)).padStart(2, "0"),
  );
  return `${hours}:${minutes}:${seconds}.${String(whole % 1000).padStart(3, "0")}`;
}

/** Text as a cue may have it: an empty line would end it, and `<` begin a tag. */
function escaped(text: string): string {
  return text
    .trim()
    .replace(/\s*\n\s*/g, "\n")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;");
}
