/** What the page says of merging anew: fetched with the first token map. */
import { inLanguage } from "./index.js";
import type { Widen } from "./translation.js";

const en = {
  budget: (clip: boolean) => (clip ? "Tokens an event" : "Tokens a picture"),
  value: (tokens: number) => `${tokens} tokens`,
  play: "Move it to merge anew.",
  merging: "Merging anew.",
  changed: (now: string, before: string, seconds: string) =>
    `${now} tokens instead of ${before}; decoded, encoded and merged in ${seconds} s.`,
  reset: "As it was asked",
  noModel: "A model that is loaded merges anew.",
  failed: (why: string) => `It can't be merged anew: ${why}`,
  download: (format: string) => `Download what is drawn as ${format}`,
};

/** The words of merging anew, in some language. */
export type MergingWords = Widen<typeof en>;

const ja: MergingWords = {
  budget: (clip) => (clip ? "イベントごとのトークン数" : "画像のトークン数"),
  value: (tokens) => `${tokens} トークン`,
  play: "動かすと統合し直します。",
  merging: "統合し直しています。",
  changed: (now, before, seconds) =>
    `${before} の代わりに ${now} トークン。デコードから統合まで ${seconds} 秒。`,
  reset: "質問したときのまま",
  noModel: "読み込んだモデルが統合し直します。",
  failed: (why) => `統合し直せません: ${why}`,
  download: (format) => `表示中の画像を ${format} でダウンロード`,
};

const zh: MergingWords = {
  budget: (clip) => (clip ? "每个事件的词元数" : "图片的词元数"),
  value: (tokens) => `${tokens} 个词元`,
  play: "移动即可重新合并。",
  merging: "正在重新合并。",
  changed: (now, before, seconds) =>
    `${now} 个词元，原为 ${before} 个；解码、编码与合并用时 ${seconds} 秒。`,
  reset: "恢复提问时的样子",
  noModel: "加载模型后可以重新合并。",
  failed: (why) => `无法重新合并：${why}`,
  download: (format) => `将所示图片下载为 ${format}`,
};

/** Returns the words in the language of the page. */
export function mergingWords(): MergingWords {
  return inLanguage({ en, ja, zh });
}
