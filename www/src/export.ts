/** A conversation as a file to take away. */
import { type Attachment, nameOf } from "./attachment.js";
import { date } from "./format.js";
import type { PastTurn } from "./history.js";

/** The conversation as JSON: words, numbers and token maps; pictures and clips by their names. */
export function asJson(turns: readonly PastTurn[]): Blob {
  const plain = turns.map(({ attachments, tokenMaps, ...turn }) => ({
    ...turn,
    attachments: attachments.map((one, index) => ({
      ...described(one),
      tokenMap: tokenMaps[index],
    })),
  }));
  const groups = (_: string, value: unknown) => (value instanceof Uint32Array ? [...value] : value);
  return new Blob(
    [JSON.stringify({ format: "univi-conversation", version: 1, turns: plain }, groups, 2)],
    { type: "application/json" },
  );
}

/** The conversation as Markdown, to read: questions as quotations, answers as they are. */
export function asMarkdown(title: string, turns: readonly PastTurn[]): Blob {
  const parts = turns.map(({ text, attachments, answer, model, modelLabel = model, askedAt }) => {
    const shown = attachments.map((one) => `> 📎 ${nameOf(one)}\n>\n`).join("");
    const asked = text.replaceAll("\n", "\n> ");
    return `${shown}> ${asked}\n\n${answer}\n\n*${modelLabel}, ${date(askedAt)}*\n`;
  });
  return new Blob([[`# ${title}\n`, ...parts].join("\n")], { type: "text/markdown" });
}

function described(attachment: Attachment): object {
  if (attachment.kind === "live")
    return { kind: attachment.kind, timesSeconds: [...attachment.stills.keys()] };
  const { name, type, size: bytes } = attachment.file;
  return { kind: attachment.kind, name, type, bytes };
}
