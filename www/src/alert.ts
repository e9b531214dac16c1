/** What went wrong, where it went wrong, with what helps. */
import { UniviError } from "univi";

import { make } from "./dom.js";
import { words } from "./words/index.js";

/**
 * Shows an error in `alert`: what it means in the reader's language, what the library says of it,
 * and a button that helps.
 */
export function showAlert(alert: HTMLElement, error: unknown, help?: HTMLButtonElement): void {
  const code = error instanceof UniviError ? error.code : undefined;
  const meaning = code === undefined ? words.failed : words.errors[code];
  const detail = error instanceof Error ? error.message : String(error);
  alert.replaceChildren(
    make("p", {}, make("strong", {}, meaning), " ", detail),
    ...(help ? [help] : []),
  );
  if (code) alert.dataset.code = code;
  alert.hidden = false;
}

/** Shows a sentence that is for people already. */
export function showWarning(alert: HTMLElement, text: string): void {
  delete alert.dataset.code;
  alert.replaceChildren(make("p", {}, text));
  alert.hidden = false;
}

export function hideAlert(alert: HTMLElement): void {
  alert.hidden = true;
  delete alert.dataset.code;
}
