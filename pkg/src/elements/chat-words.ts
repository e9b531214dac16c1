/** What `<univi-chat>` says. */
import type { LoadProgress } from "../types.js";

/** What `<univi-chat>` says, for other languages than English, Japanese and Chinese. */
export interface ChatWords {
  /** What the conversation is, for those who do not see it. */
  readonly conversation: string;
  /** The place of the question, where no `placeholder` is given. */
  readonly placeholder: string;
  /** The button that adds pictures and clips. */
  readonly attach: string;
  /** The button that takes a file away again. */
  readonly remove: (name: string) => string;
  /** The button that asks. */
  readonly send: string;
  /** The button that ends an answer. */
  readonly stop: string;
  /** Above the button that begins anew. */
  readonly clear: string;
  /** What is said while nothing has come of an answer yet. */
  readonly thinking: string;
  /** What is said while the model loads; bytes as people read them, nothing where not known. */
  readonly loading: (progress: LoadProgress, loaded: string, total: string) => string;
  /** What is asked about pictures, or clips, that come without a question. */
  readonly describe: (clips: boolean) => string;
  /** What stands for an answer without a word. */
  readonly empty: string;
}

const ENGLISH: ChatWords = {
  conversation: "Conversation",
  placeholder: "Ask about a picture or a clip",
  attach: "Add pictures or clips",
  remove: (name) => `Remove ${name}`,
  send: "Ask",
  stop: "Stop",
  clear: "Start over",
  thinking: "Looking …",
  loading: ({ phase }, loaded, total) =>
    phase === "compile" || phase === "ready"
      ? "Preparing the model …"
      : `Loading the model${loaded && `: ${loaded} of ${total}`} …`,
  describe: (clips) => (clips ? "What happens in the clip?" : "Describe the picture."),
  empty: "(no answer)",
};

const JAPANESE: ChatWords = {
  conversation: "会話",
  placeholder: "画像や動画について質問",
  attach: "画像や動画を追加",
  remove: (name) => `${name} を外す`,
  send: "質問する",
  stop: "停止",
  clear: "最初から",
  thinking: "見ています…",
  loading: ({ phase }, loaded, total) =>
    phase === "compile" || phase === "ready"
      ? "モデルを準備中…"
      : `モデルを読み込み中${loaded && `（${loaded} / ${total}）`}…`,
  describe: (clips) => (clips ? "この動画では何が起こりますか？" : "この画像を説明してください。"),
  empty: "（答えはありません）",
};

const CHINESE: ChatWords = {
  conversation: "对话",
  placeholder: "就图片或视频提问",
  attach: "添加图片或视频",
  remove: (name) => `移除 ${name}`,
  send: "提问",
  stop: "停止",
  clear: "重新开始",
  thinking: "正在看…",
  loading: ({ phase }, loaded, total) =>
    phase === "compile" || phase === "ready"
      ? "正在准备模型…"
      : `正在加载模型${loaded && `：${loaded} / ${total}`}…`,
  describe: (clips) => (clips ? "视频里发生了什么？" : "请描述这张图片。"),
  empty: "（没有回答）",
};

/** The words of a language tag such as `ja-JP`; English where there are none. */
export function wordsOf(language: string): ChatWords {
  const words: Record<string, ChatWords> = { ja: JAPANESE, zh: CHINESE };
  return words[language.toLowerCase().split("-")[0]!] ?? ENGLISH;
}
