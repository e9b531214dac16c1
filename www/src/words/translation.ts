/** What a translation of the page has to have. */
import type { en } from "./en.js";

/** What is said by code, in some language. */
export type Words = Widen<typeof en>;

/**
 * A language beside English: what is said by code, and `page`, what stands in `index.html` by its
 * `data-word` keys.
 */
export interface Translation {
  readonly words: Words;
  readonly page: Readonly<Record<string, string>>;
}

/** The same with any text where there is a certain one. */
export type Widen<T> = T extends string
  ? string
  : T extends (...args: infer A) => string
    ? (...args: A) => string
    : T extends readonly string[]
      ? readonly string[]
      : { readonly [K in keyof T]: Widen<T[K]> };
