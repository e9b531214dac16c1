/** How questions are asked: fields in the drawer, kept between visits. */
import type { AskOptions, FrameChoice, SessionOptions } from "univi";

import { byId } from "./dom.js";
import { openDrawer } from "./drawer.js";
import { remember, remembered } from "./remembered.js";
import { words } from "./words/index.js";

const KEPT = "univi.settings";

const fields = {
  temperature: byId("temperature", HTMLInputElement),
  topP: byId("top-p", HTMLInputElement),
  maxTokens: byId("max-tokens", HTMLInputElement),
  frameRate: byId("frame-rate", HTMLInputElement),
  maxFrames: byId("max-frames", HTMLInputElement),
  visualTokens: byId("visual-tokens", HTMLInputElement),
  template: byId("template", HTMLSelectElement),
  system: byId("system", HTMLTextAreaElement),
};
const visualTokensValue = byId("visual-tokens-value", HTMLOutputElement);
const defaults = new Map(Object.entries(fields).map(([name, field]) => [name, field.value]));

/** How an answer is sampled, and how many tokens a picture gets. */
export function askOptions(): Pick<
  AskOptions,
  "temperature" | "topP" | "maxTokens" | "visualTokens"
> {
  const { temperature, topP, maxTokens } = fields;
  return {
    temperature: temperature.valueAsNumber,
    topP: topP.valueAsNumber,
    maxTokens: maxTokens.valueAsNumber,
    ...visualTokens(),
  };
}

/** How many tokens a picture gets. */
export function visualTokens(): { visualTokens?: number } {
  const tokens = fields.visualTokens.valueAsNumber;
  return tokens === 0 ? {} : { visualTokens: tokens };
}

/** Which frames of a clip are encoded. */
export function frameChoice(): FrameChoice {
  return { frameRate: fields.frameRate.valueAsNumber, maxFrames: fields.maxFrames.valueAsNumber };
}

/** How a conversation is put to the model. */
export function sessionOptions(): Pick<SessionOptions, "system" | "template"> {
  const { system, template } = fields;
  return {
    ...(system.value.trim() === "" ? {} : { system: system.value.trim() }),
    ...(template.value === "" ? {} : { template: template.value }),
  };
}

/** Returns what differs from the page's own settings, by the fields' names. */
export function changedSettings(): Record<string, string> {
  const changed = Object.entries(fields).filter(
    ([name, field]) => field.value !== defaults.get(name),
  );
  return Object.fromEntries(changed.map(([name, field]) => [name, field.value]));
}

/** Takes settings for this visit; returns what the page calls them, and names that it can't use. */
export function takeSettings(settings: Record<string, string>): {
  taken: string[];
  refused: string[];
} {
  const [taken, refused]: [string[], string[]] = [[], []];
  for (const [name, value] of Object.entries(settings)) {
    const field = Object.hasOwn(fields, name) ? fields[name as keyof typeof fields] : undefined;
    const before = field?.value ?? "";
    if (field) field.value = value;
    if (field && field.value === value && field.validity.valid) {
      taken.push(field.labels?.[0]?.textContent?.trim() ?? name);
    } else {
      if (field) field.value = before;
      refused.push(name);
    }
  }
  showSettings();
  return { taken, refused };
}

/** Takes the settings of the last visit back. */
export function restoreSettings(): void {
  const kept = keptSettings();
  for (const [name, field] of Object.entries(fields)) {
    const value = kept[name];
    field.value = typeof value === "string" ? value : defaults.get(name)!;
    if (!field.validity.valid || field.value === "") field.value = defaults.get(name)!;
  }
  showSettings();
}

/** Reads what was kept, and keeps what is changed; `onChange` hears of that. */
export function wireSettings(onChange: () => void): void {
  restoreSettings();
  const changed = () => {
    showSettings();
    remember(
      KEPT,
      JSON.stringify(
        Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value])),
      ),
    );
    onChange();
  };
  for (const field of Object.values(fields)) field.addEventListener("change", changed);
  fields.visualTokens.addEventListener("input", showSettings);
  byId("settings-reset", HTMLButtonElement).addEventListener("click", () => {
    for (const [name, field] of Object.entries(fields)) field.value = defaults.get(name)!;
    changed();
  });
  // A field that is out of sight can't say what is wrong with it.
  for (const field of Object.values(fields))
    field.addEventListener("invalid", () => openDrawer(field));
}

/** Says in words what a slider can't. */
export function showSettings(): void {
  const { visualTokens: tokens } = askOptions();
  const text = tokens === undefined ? words.modelsOwn : String(tokens);
  visualTokensValue.textContent = text;
  fields.visualTokens.setAttribute("aria-valuetext", text);
}

function keptSettings(): Record<string, unknown> {
  try {
    const kept: unknown = JSON.parse(remembered(KEPT) ?? "{}");
    return typeof kept === "object" && kept !== null ? { ...kept } : {};
  } catch {
    return {};
  }
}
