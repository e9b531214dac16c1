/**
 * What stands beside the conversation where there is room for it; elsewhere it is a sheet, which
 * covers the conversation until it is closed.
 */
import { byId } from "./dom.js";

/** As in `frame.css`. */
const BESIDE = matchMedia("(min-width: 1000px)");

const side = byId("side", HTMLElement);
const heading = byId("token-map-heading", HTMLHeadingElement);

/** Opens the sheet, where it is one. */
export function showSide(): void {
  if (!BESIDE.matches) side.showPopover();
}

/** Makes the sheet one that keyboard and screen reader stay in while it is open. */
export function wireSide(): void {
  side.addEventListener("beforetoggle", (event) => {
    const opens = (event as ToggleEvent).newState === "open";
    for (const other of [byId("main", HTMLElement), document.querySelector("header")!])
      other.inert = opens;
    side.role = opens ? "dialog" : "complementary";
    side.ariaModal = opens ? "true" : null;
  });
  side.addEventListener("toggle", (event) => {
    if ((event as ToggleEvent).newState === "open") heading.focus();
  });
  BESIDE.addEventListener("change", () => {
    if (side.matches(":popover-open")) side.hidePopover();
  });
}
