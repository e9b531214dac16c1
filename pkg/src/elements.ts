/**
 * Elements that show what the model saw: `<univi-tokens>`, merged tokens over a picture, and
 * `<univi-events>`, a clip's timeline. Importing this defines them.
 *
 * @module univi/elements
 */
import { define } from "./elements/base.js";
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

define("univi-tokens", UniviTokensElement);
define("univi-events", UniviEventsElement);
