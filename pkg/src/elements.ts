/**
 * Two elements that show what the model saw: `<univi-tokens>`, merged tokens over a picture, and
 * `<univi-events>`, a clip's timeline. Importing this defines them.
 *
 * @module univi/elements
 */
import { clock, type EventsWords, UniviEventsElement } from "./elements/events.js";
import { hue, type TokensWords, UniviTokensElement } from "./elements/tokens.js";

export { clock, hue, UniviEventsElement, UniviTokensElement };
export type { EventsWords, TokensWords };

declare global {
  interface HTMLElementTagNameMap {
    "univi-tokens": UniviTokensElement;
    "univi-events": UniviEventsElement;
  }
}

customElements.define("univi-tokens", UniviTokensElement);
customElements.define("univi-events", UniviEventsElement);
