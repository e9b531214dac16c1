/**
 * The page's words, in the language of its reader. English static text stands in `index.html`
 * itself.
 */
import { remember, remembered } from "../remembered.js";
import { en } from "./en.js";
import type { Translation, Words } from "./translation.js";

/**
 * Languages, as `<html lang>` calls them, and where their words are; they are fetched when they are
 * chosen.
 */
const LANGUAGES = {
  en: { tag: "en", load: async (): Promise<Translation> => ({ words: en, page: {} }) },
  ja: { tag: "ja", load: async () => (await import("./ja.js")).ja },
  zh: { tag: "zh-Hans", load: async () => (await import("./zh.js")).zh },
};

/** Words of a part of the page that comes on demand, in the language of the page. */
export function inLanguage<T>(languages: Readonly<Record<Language, T>>): T {
  const language = document.documentElement.lang.slice(0, 2);
  return language in languages ? languages[language as Language] : languages.en;
}

/** A language that the page speaks. */
export type Language = keyof typeof LANGUAGES;

/** The words as they are now. */
export let words: Words = en;

const KEPT = "univi.language";
/** What is said in attributes, by the attribute that has its key. */
const ATTRIBUTES = { "data-word-label": "aria-label", "data-word-placeholder": "placeholder" };
/** English, as the page came. */
const english = new Map<string, string>();

/** The language that was chosen before, else the first of the browser's that the page speaks. */
export function preferredLanguage(): Language {
  const wanted = [remembered(KEPT), ...navigator.languages].map((tag) => tag?.split("-")[0]);
  return wanted.find((tag): tag is Language => tag !== undefined && tag in LANGUAGES) ?? "en";
}

/** Changes the language of the page, and of all that is said from now on. */
export async function speak(language: Language, keep: boolean): Promise<void> {
  const { tag, load } = LANGUAGES[language];
  const translation = await load();
  if (keep) remember(KEPT, language);
  words = translation.words;
  document.documentElement.lang = tag;
  for (const element of document.querySelectorAll<HTMLElement>("[data-word]")) {
    element.textContent = inPage(translation, element.dataset.word!, element.textContent);
  }
  for (const [key, attribute] of Object.entries(ATTRIBUTES)) {
    for (const element of document.querySelectorAll(`[${key}]`)) {
      element.setAttribute(
        attribute,
        inPage(translation, element.getAttribute(key)!, element.getAttribute(attribute) ?? ""),
      );
    }
  }
}

function inPage({ page }: Translation, key: string, found: string): string {
  if (!english.has(key)) english.set(key, found);
  return page[key] ?? english.get(key)!;
}
