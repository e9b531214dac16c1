/** How much of the model's context the conversation takes. */
import type { ContextUsage } from "univi";

import { byId } from "./dom.js";
import { words } from "./words/index.js";

const row = byId("context", HTMLParagraphElement);
const meter = byId("context-meter", HTMLMeterElement);
const text = byId("context-text", HTMLSpanElement);
let shown: ContextUsage | undefined;

/** Shows it, as of the last answer; nothing where no conversation goes on. */
export function showContext(usage: ContextUsage | undefined): void {
  shown = usage;
  row.hidden = usage === undefined;
  if (!usage) return;
  meter.value = usage.used / usage.capacity;
  text.textContent = words.contextOf(usage.used, usage.capacity);
}

/** Says it in the language that is spoken now. */
export function translateContext(): void {
  showContext(shown);
}
