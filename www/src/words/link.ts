/** What the page says of links to questions: fetched with the first. */
import { inLanguage } from "./index.js";
import type { Widen } from "./translation.js";

const en = {
  settingsOfLink: (names: string) => `The link by which this page was opened sets: ${names}.`,
  notOfLink: (names: string) => `It says something of these that can't be used here: ${names}.`,
};

/** The words of links, in some language. */
export type LinkWords = Widen<typeof en>;

const ja: LinkWords = {
  settingsOfLink: (names) => `このページを開いたリンクによる設定：${names}。`,
  notOfLink: (names) => `リンクの次の内容はここでは使えません：${names}。`,
};

const zh: LinkWords = {
  settingsOfLink: (names) => `打开本页的链接更改了这些设置：${names}。`,
  notOfLink: (names) => `链接中的这些内容在此无法使用：${names}。`,
};

/** Returns the words in the language of the page. */
export function linkWords(): LinkWords {
  return inLanguage({ en, ja, zh });
}
