/**
 * A conversation that was exported, as it comes back. The file may be anything: all of it is
 * checked before any of it is kept or drawn.
 */
import type { FrameChoice, MergeStage, TokenMap, TokenMapFrame, Usage, VideoEvent } from "univi";

import type { Attachment } from "./attachment.js";
import type { AnswerVersion, PastTurn } from "./history.js";

/** No model has more patches along a side, and no clip more frames. */
const MOST_PATCHES = 256;
const MOST_FRAMES = 4096;

/** Why a file is no conversation, as people read it. */
export class NoConversation extends Error {}

/** Reads a file that {@link import("./export.js").asJson} wrote. */
export async function readConversation(
  file: File,
): Promise<{ readonly title: string; readonly turns: readonly PastTurn[] }> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await file.text());
  } catch {
    throw new NoConversation("JSON");
  }
  const { format, version, title, turns } = record(parsed, "JSON");
  if (format !== "univi-conversation") throw new NoConversation("format");
  if (version !== 1) throw new NoConversation("version");
  const read = list(turns, "turns").map((turn, index) => turnOf(turn, `turns[${index}]`));
  if (read.length === 0) throw new NoConversation("turns");
  return { title: title === undefined ? read[0]!.text : text(title, "title"), turns: read };
}

function turnOf(value: unknown, at: string): PastTurn {
  const { text: asked, attachments, askedAt, versions, chosen, ...rest } = record(value, at);
  const shown = list(attachments, `${at}.attachments`).map((one, index) =>
    record(one, `${at}.attachments[${index}]`),
  );
  const mapped = shown.filter(({ tokenMap }) => tokenMap !== undefined);
  const tokenMaps = mapped.map(({ tokenMap }) => tokenMapOf(tokenMap, `${at}.tokenMap`));
  const when = new Date(text(askedAt, `${at}.askedAt`));
  if (Number.isNaN(when.getTime())) throw new NoConversation(`${at}.askedAt`);
  const answers =
    versions === undefined
      ? undefined
      : list(versions, `${at}.versions`).map((one) => answerOf(record(one, at), at));
  if (answers && !answers[whole(chosen, `${at}.chosen`)]) throw new NoConversation(`${at}.chosen`);
  return {
    text: text(asked, `${at}.text`),
    attachments: shown.map((one, index) => attachmentOf(one, `${at}.attachments[${index}]`)),
    tokenMaps,
    askedAt: when,
    ...answerOf(rest, at),
    ...(answers ? { versions: answers, chosen: chosen as number } : {}),
  };
}

function answerOf(fields: Record<string, unknown>, at: string): AnswerVersion {
  const { answer, stopped, model, modelLabel, readFrom, usage } = fields;
  if (typeof stopped !== "boolean") throw new NoConversation(`${at}.stopped`);
  return {
    answer: text(answer, `${at}.answer`),
    stopped,
    model: text(model, `${at}.model`),
    ...(modelLabel === undefined ? {} : { modelLabel: text(modelLabel, `${at}.modelLabel`) }),
    ...(readFrom === undefined ? {} : { readFrom: whole(readFrom, `${at}.readFrom`) }),
    ...(usage === undefined ? {} : { usage: usageOf(usage, `${at}.usage`) }),
  };
}

const USAGE = [
  "promptTokens",
  "reusedTokens",
  "visualTokens",
  "completionTokens",
  "droppedTurns",
  "timeToFirstTokenMs",
  "prefillTokensPerSecond",
  "tokensPerSecond",
] as const;

function usageOf(value: unknown, at: string): Usage {
  const fields = record(value, at);
  const counted = USAGE.map((name) => [name, amount(fields[name], `${at}.${name}`)] as const);
  const finishReason = fields.finishReason === "length" ? "length" : "stop";
  return { ...(Object.fromEntries(counted) as Omit<Usage, "finishReason">), finishReason };
}

function attachmentOf(fields: Record<string, unknown>, at: string): Attachment {
  const { kind, name, type, data, sample, trim, stills } = fields;
  if (kind === "live") {
    const read = list(stills, `${at}.stills`).map((still) => {
      const { timeSeconds, type, data } = record(still, `${at}.stills`);
      return [amount(timeSeconds, `${at}.stills`), blobOf(data, type, at)] as const;
    });
    return { kind, stills: new Map(read) };
  }
  if (kind !== "image" && kind !== "clip") throw new NoConversation(`${at}.kind`);
  const blob = blobOf(data, type, at);
  const file = new File([blob], text(name, `${at}.name`), { type: blob.type });
  return {
    kind,
    file,
    ...(typeof sample === "boolean" ? { sample } : {}),
    ...(trim === undefined ? {} : { trim: trimOf(trim, `${at}.trim`) }),
  };
}

function trimOf(value: unknown, at: string): FrameChoice {
  const fields = record(value, at);
  const names = ["startSeconds", "endSeconds", "frameRate", "maxFrames"] as const;
  const given = names.filter((name) => fields[name] !== undefined);
  return Object.fromEntries(given.map((name) => [name, amount(fields[name], `${at}.${name}`)]));
}

/** A file of a picture or clip; whatever else it says that it is, is not said on. */
function blobOf(data: unknown, type: unknown, at: string): Blob {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    const decoded = atob(text(data, `${at}.data`));
    bytes = new Uint8Array(decoded.length);
    for (let index = 0; index < decoded.length; index++) bytes[index] = decoded.charCodeAt(index);
  } catch {
    throw new NoConversation(`${at}.data`);
  }
  const visual = /^(image|video)\//.test(text(type, `${at}.type`));
  return new Blob([bytes], { type: visual ? String(type) : "" });
}

function tokenMapOf(value: unknown, at: string): TokenMap {
  const { kind, patchesPerSide, frames, events, tokens } = record(value, at);
  if (kind !== "image" && kind !== "clip") throw new NoConversation(`${at}.kind`);
  const side = whole(patchesPerSide, `${at}.patchesPerSide`, MOST_PATCHES);
  const read = list(frames, `${at}.frames`, MOST_FRAMES).map((one) => frameOf(one, at));
  const told = list(events, `${at}.events`, MOST_FRAMES).map((one) =>
    eventOf(one, `${at}.events`, side ** 2, read.length),
  );
  if (side === 0 || read.length === 0 || told.length === 0) throw new NoConversation(at);
  const all = whole(tokens, `${at}.tokens`);
  return { kind, patchesPerSide: side, frames: read, events: told, tokens: all };
}

function frameOf(value: unknown, at: string): TokenMapFrame {
  const { timeSeconds, width, height, crop } = record(value, `${at}.frames`);
  const { x, y, side } = record(crop, `${at}.crop`);
  const [left, top, length, seconds] = [x, y, side, timeSeconds].map((one) => amount(one, at));
  const [across, down] = [width, height].map((one) => whole(one, `${at}.frames`, 1 << 16));
  return {
    timeSeconds: seconds!,
    width: across!,
    height: down!,
    crop: { x: left!, y: top!, side: length! },
  };
}

function eventOf(value: unknown, at: string, patches: number, count: number): VideoEvent {
  const { frames, tokens, stages } = record(value, at);
  const own = list(frames, at, MOST_FRAMES).map((one) => whole(one, at, count - 1));
  const read = list(stages, at, 16).map((one): MergeStage => {
    const stage = record(one, at);
    const tokens = whole(stage.tokens, at);
    const groups = list(stage.groups, at, patches * own.length);
    if (groups.length !== patches * own.length) throw new NoConversation(`${at}.groups`);
    return { tokens, groups: Uint32Array.from(groups, (one) => whole(one, at, tokens - 1)) };
  });
  return { frames: own, tokens: whole(tokens, at), stages: read };
}

function record(value: unknown, at: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new NoConversation(at);
  return value as Record<string, unknown>;
}

function list(value: unknown, at: string, most = Number.POSITIVE_INFINITY): readonly unknown[] {
  if (!Array.isArray(value) || value.length > most) throw new NoConversation(at);
  return value;
}

function text(value: unknown, at: string): string {
  if (typeof value !== "string") throw new NoConversation(at);
  return value;
}

function amount(value: unknown, at: string): number {
  if (typeof value !== "number" || !Number.isFinite(value) || value < 0)
    throw new NoConversation(at);
  return value;
}

function whole(value: unknown, at: string, most = 2 ** 32 - 1): number {
  if (!Number.isInteger(value) || Number(value) < 0 || Number(value) > most)
    throw new NoConversation(at);
  return value as number;
}
