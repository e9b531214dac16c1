/** What the page says of conversations that come and go as files: fetched with the first. */
import { inLanguage } from "./index.js";
import type { Widen } from "./translation.js";

const en = {
  imported: (title: string) => `“${title}” was imported.`,
  noConversation: (file: string, where: string) =>
    `${file} is no conversation that was exported from this page as JSON, or was changed: see ${where} in it. Nothing was imported.`,
  tooLarge: (most: string) =>
    `The pictures and clips of this conversation are larger than a file can hold, ${most}. Ask about parts of it in conversations of their own.`,
};

/** The words of transfer, in some language. */
export type TransferWords = Widen<typeof en>;

const ja: TransferWords = {
  imported: (title) => `「${title}」を読み込みました。`,
  noConversation: (file, where) =>
    `${file} はこのページから JSON で書き出した会話ではないか、変更されています（${where}）。何も読み込みませんでした。`,
  tooLarge: (most) =>
    `この会話の画像と動画は、一つのファイルに入る ${most} を超えています。別々の会話に分けてください。`,
};

const zh: TransferWords = {
  imported: (title) => `已导入“${title}”。`,
  noConversation: (file, where) =>
    `${file} 不是从本页导出的 JSON 对话，或已被改动（见其中的 ${where}）。没有导入任何内容。`,
  tooLarge: (most) => `此对话的图片和视频超过了一个文件所能容纳的 ${most}。请分成几个对话。`,
};

/** Returns the words in the language of the page. */
export function transferWords(): TransferWords {
  return inLanguage({ en, ja, zh });
}
