/** A conversation as a file to take away, with its pictures and clips. */
import { type Attachment, nameOf } from "./attachment.js";
import { date } from "./format.js";
import type { PastTurn } from "./history.js";

/** More than this can't be held as one text. */
export const MOST_BYTES = 256_000_000;

/** The pictures and clips are too large for one file. */
export class TooLarge extends Error {}

/** Returns the conversation as JSON, which can be imported: nothing of it is left out. */
export async function asJson(title: string, turns: readonly PastTurn[]): Promise<Blob> {
  refuseTooLarge(turns);
  const parts: string[] = [];
  for (const { attachments, tokenMaps, ...turn } of turns) {
    const described: object[] = [];
    for (const [index, one] of attachments.entries())
      described.push({ ...(await withData(one)), tokenMap: tokenMaps[index] });
    parts.push(JSON.stringify({ ...turn, attachments: described }, plain, 1));
  }
  const head = JSON.stringify({ format: "univi-conversation", version: 1, title });
  return new Blob([`${head.slice(0, -1)},"turns":[`, parts.join(",\n"), "]}\n"], {
    type: "application/json",
  });
}

/** Returns the conversation as Markdown, to read: questions as quotations, answers as they are. */
export async function asMarkdown(title: string, turns: readonly PastTurn[]): Promise<Blob> {
  refuseTooLarge(turns);
  /** Pictures stand behind the text, which stays readable so. */
  const pictures: string[] = [];
  const parts: string[] = [];
  for (const { text, attachments, answer, model, modelLabel = model, askedAt } of turns) {
    let shown = "";
    for (const one of attachments) {
      const name = nameOf(one).replace(/[[\]\\]/g, "\\$&");
      if (one.kind === "image") {
        pictures.push(`[picture-${pictures.length + 1}]: ${await dataUrl(one.file)}`);
        shown += `> ![${name}][picture-${pictures.length}]\n>\n`;
      } else {
        shown += `> 📎 ${name}\n>\n`;
      }
    }
    const asked = text.replaceAll("\n", "\n> ");
    parts.push(`${shown}> ${asked}\n\n${answer}\n\n*${modelLabel}, ${date(askedAt)}*\n`);
  }
  return new Blob([[`# ${title}\n`, ...parts, ...pictures].join("\n"), "\n"], {
    type: "text/markdown",
  });
}

async function withData(attachment: Attachment): Promise<object> {
  if (attachment.kind === "live") {
    const stills = [];
    for (const [timeSeconds, still] of attachment.stills)
      stills.push({ timeSeconds, type: still.type, data: await base64(still) });
    return { kind: attachment.kind, stills };
  }
  const { kind, file, sample, trim } = attachment;
  const { name, type, size: bytes } = file;
  return { kind, name, type, bytes, sample, trim, data: await base64(file) };
}

/** Typed arrays as JSON has them. */
function plain(_: string, value: unknown): unknown {
  return value instanceof Uint32Array ? [...value] : value;
}

function refuseTooLarge(turns: readonly PastTurn[]): void {
  const blobs = turns.flatMap(({ attachments }) =>
    attachments.flatMap((one) => (one.kind === "live" ? [...one.stills.values()] : [one.file])),
  );
  const bytes = blobs.reduce((sum, { size }) => sum + size, 0);
  if (bytes > MOST_BYTES) throw new TooLarge(`${bytes} bytes`);
}

async function base64(blob: Blob): Promise<string> {
  const url = await dataUrl(blob);
  return url.slice(url.indexOf(",") + 1);
}

function dataUrl(blob: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
