/** The drawer at the edge of the page: models, settings, what is kept, and what the page is. */
import { byId } from "./dom.js";

const drawer = byId("drawer", HTMLDialogElement);

const openings: (() => void)[] = [];

/** Has something done whenever it opens: what only it shows is not made before. */
export function whenDrawerOpens(act: () => void): void {
  openings.push(act);
}

/** Returns whether it is open. */
export function isDrawerOpen(): boolean {
  return drawer.open;
}

/** Opens it at one of its parts. */
export function openDrawer(at: HTMLElement): void {
  if (!drawer.open) {
    drawer.showModal();
    for (const act of openings) act();
  }
  at.focus();
  at.scrollIntoView({ block: at instanceof HTMLHeadingElement ? "start" : "center" });
}

/** Closes it; the keyboard is where it was before. */
export function closeDrawer(): void {
  drawer.close();
}

/** Wires its buttons. */
export function wireDrawer(): void {
  const at = (button: string, part: () => HTMLElement) =>
    byId(button, HTMLButtonElement).addEventListener("click", () => openDrawer(part()));
  at("model-in-use", () => byId("model-choice", HTMLSelectElement));
  at("open-settings", () => byId("settings-heading", HTMLHeadingElement));
  byId("close-drawer", HTMLButtonElement).addEventListener("click", closeDrawer);
  drawer.addEventListener("click", (event) => {
    if (event.target === drawer && outside(event)) closeDrawer();
  });
  // Fields of settings belong to the question's form, which Enter in one of them must not send.
  drawer.addEventListener("keydown", (event) => {
    const { target } = event;
    if (
      event.key === "Enter" &&
      target instanceof HTMLInputElement &&
      target.form?.id === "ask-form"
    )
      event.preventDefault();
  });
}

/** Whether something lies over the conversation, which Escape is for then. */
export function isCovered(): boolean {
  return document.querySelector("dialog[open], :popover-open") !== null;
}

/** Whether the backdrop was pressed, which the dialog takes for itself. */
function outside({ clientX, clientY }: MouseEvent): boolean {
  const { left, right, top, bottom } = drawer.getBoundingClientRect();
  return clientX < left || clientX > right || clientY < top || clientY > bottom;
}
