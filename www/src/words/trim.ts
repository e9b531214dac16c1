/** What the page says of trimming a clip: fetched when one is trimmed. */
import { inLanguage } from "./index.js";
import type { Widen } from "./translation.js";

const en = {
  heading: (name: string) => `Which part of ${name} to ask about`,
  start: "Start",
  end: "End",
  frameRate: "Frames per second",
  whole: "Whole clip",
  done: "Done",
  reading: "Reading the clip.",
  part: (from: string, to: string) => `${from} to ${to}`,
  frames: (frames: number) => `${frames} ${frames === 1 ? "frame" : "frames"}`,
  tokens: (tokens: string) => `about ${tokens} tokens`,
  most: (frames: number) => `The settings allow ${frames} frames: they are spread evenly.`,
  tooMany: (capacity: string) =>
    `That is more than the model reads at once, ${capacity} tokens. Take a shorter part, or fewer frames.`,
  noModel: "What it costs in tokens is known once the model is loaded.",
  loadModel: "Load the model",
  unreadable: "This clip can't be read here, so it can't be trimmed.",
  wrongRate: "A number above 0, up to 30.",
};

/** The words of trimming, in some language. */
export type TrimWords = Widen<typeof en>;

const ja: TrimWords = {
  heading: (name) => `${name} のどこについて質問するか`,
  start: "開始",
  end: "終了",
  frameRate: "毎秒のフレーム数",
  whole: "動画全体",
  done: "完了",
  reading: "動画を読み込み中です。",
  part: (from, to) => `${from} から ${to} まで`,
  frames: (frames) => `${frames} フレーム`,
  tokens: (tokens) => `約 ${tokens} トークン`,
  most: (frames) => `設定の上限は ${frames} フレームです。均等に選ばれます。`,
  tooMany: (capacity) =>
    `モデルが一度に読める ${capacity} トークンを超えています。短くするか、フレームを減らしてください。`,
  noModel: "トークン数はモデルを読み込むと分かります。",
  loadModel: "モデルを読み込む",
  unreadable: "この動画はここでは読めないため、切り取れません。",
  wrongRate: "0 より大きく 30 以下の数です。",
};

const zh: TrimWords = {
  heading: (name) => `要问 ${name} 的哪一段`,
  start: "开始",
  end: "结束",
  frameRate: "每秒帧数",
  whole: "整个视频",
  done: "完成",
  reading: "正在读取视频。",
  part: (from, to) => `${from} 到 ${to}`,
  frames: (frames) => `${frames} 帧`,
  tokens: (tokens) => `约 ${tokens} 个词元`,
  most: (frames) => `设置最多允许 ${frames} 帧，会均匀选取。`,
  tooMany: (capacity) => `超过了模型一次能读的 ${capacity} 个词元。请缩短片段，或减少帧数。`,
  noModel: "加载模型后才知道需要多少词元。",
  loadModel: "加载模型",
  unreadable: "此处无法读取该视频，因此不能截取。",
  wrongRate: "大于 0、不超过 30 的数。",
};

/** Returns the words in the language of the page. */
export function trimWords(): TrimWords {
  return inLanguage({ en, ja, zh });
}
