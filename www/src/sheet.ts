/**
 * Columns beside the conversation, where there is room for them; elsewhere each is a sheet, which
 * covers the conversation until it is closed.
 */
import { byId } from "./dom.js";

/** What the model saw. */
export const SAW = sheet("side", "token-map-heading", "(min-width: 1000px)", "complementary");
/** The list of conversations. */
export const CONVERSATIONS = sheet(
  "conversations",
  "conversations-heading",
  "(min-width: 1500px)",
  "navigation",
);

/** A column that may be a sheet. */
interface Sheet {
  readonly element: HTMLElement;
  /** Whether it is a column; as in `frame.css`. */
  readonly beside: MediaQueryList;
}

/** Opens a sheet, where it is one. */
export function openSheet({ element, beside }: Sheet): void {
  if (!beside.matches) element.showPopover();
}

/** Closes a sheet, where it is one that is open. */
export function closeSheet({ element }: Sheet): void {
  if (element.matches(":popover-open")) element.hidePopover();
}

/** Wires a sheet: keyboard and screen reader stay in it while it is open. */
function sheet(id: string, headingId: string, beside: string, role: string): Sheet {
  const element = byId(id, HTMLElement);
  const made = { element, beside: matchMedia(beside) };
  element.addEventListener("beforetoggle", (event) => {
    const opens = (event as ToggleEvent).newState === "open";
    for (const other of document.querySelectorAll<HTMLElement>("header, main, [popover]"))
      if (other !== element) other.inert = opens;
    element.role = opens ? "dialog" : role;
    element.ariaModal = opens ? "true" : null;
  });
  element.addEventListener("toggle", (event) => {
    if ((event as ToggleEvent).newState === "open") byId(headingId, HTMLHeadingElement).focus();
  });
  made.beside.addEventListener("change", () => closeSheet(made));
  return made;
}
