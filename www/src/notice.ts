/** What was done, with a button that undoes it. */
import { byId } from "./dom.js";

/** So long it can be undone, unless the keyboard or the pointer is there. */
const SHOWN_MS = 12_000;

const notice = byId("notice", HTMLDivElement);
const text = byId("notice-text", HTMLSpanElement);
const undo = byId("notice-undo", HTMLButtonElement);
let act: (() => void) | undefined;
let hiding: ReturnType<typeof setTimeout> | undefined;

/** Says what was done; `undoing` undoes it. */
export function offerUndo(done: string, undoing: () => void): void {
  text.textContent = done;
  act = undoing;
  notice.hidden = false;
  hideLater();
}

/** Takes it away, where what it says has become something else. */
export function hideNotice(): void {
  clearTimeout(hiding);
  notice.hidden = true;
  act = undefined;
}

function hideLater(): void {
  clearTimeout(hiding);
  hiding = setTimeout(() => {
    if (notice.matches(":hover, :focus-within")) hideLater();
    else hideNotice();
  }, SHOWN_MS);
}

undo.addEventListener("click", () => {
  const undoing = act;
  hideNotice();
  undoing?.();
});
