/**
 * A conversation about pictures and clips as an element, `<univi-chat>`. Importing this defines it.
 *
 * @module univi/chat
 */
import { define } from "./elements/base.js";
import { type ChatAnswer, type ChatEventMap, UniviChatElement } from "./elements/chat.js";
import type { ChatWords } from "./elements/chat-words.js";

export { UniviChatElement };
export type { ChatAnswer, ChatEventMap, ChatWords };

declare global {
  interface HTMLElementTagNameMap {
    "univi-chat": UniviChatElement;
  }
}

define("univi-chat", UniviChatElement);
