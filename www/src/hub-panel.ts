/**
 * Models of the Hugging Face Hub: which one, and what to know before a checkpoint is fetched and
 * converted here.
 */
import { type Availability, cachedModels } from "univi";

import { byId, make } from "./dom.js";
import { duration, size } from "./format.js";
import { words } from "./words/index.js";

/** The choice of a model of the Hub. */
export const FROM_HUB = "hub";

const repository = byId("hub-repository", HTMLInputElement);
const quantization = byId("hub-quantization", HTMLSelectElement);
const fields = ["hub-repository-field", "hub-quantization-field"].map((id) =>
  byId(id, HTMLLabelElement),
);

/** The Hub's address, which the build writes into the page; a build may leave it out. */
const endpoint = document.querySelector<HTMLMetaElement>('meta[name="univi-hub"]')?.content;

/** A model of the Hub, as the package takes it. */
export interface HubModel {
  readonly model: string;
  readonly quantization: string;
  readonly hubEndpoint: string;
}

/** Returns the option of the list of models; none where the build leaves the Hub out. */
export function hubOptions(): HTMLOptionElement[] {
  return endpoint === undefined ? [] : [make("option", { value: FROM_HUB }, words.fromHub)];
}

/** Puts a repository into the field, and what its checkpoint is converted to. */
export function chooseOnHub(named: string, converted: string): void {
  repository.value = named;
  quantization.value = converted;
}

/** Returns what a checkpoint can be converted to here. */
export function quantizationsOnHub(): string[] {
  return [...quantization.options].map(({ value }) => value);
}

/** Shows or hides what belongs to the choice. */
export function showHubFields(visible: boolean): void {
  for (const field of fields) field.hidden = !visible;
}

/** Returns what is chosen. */
export function chosenOnHub(): HubModel {
  const named = repository.value
    .trim()
    .replace(/^hf:/i, "")
    .replace(`${endpoint}/`, "")
    .replace(/[/]+$/, "");
  return {
    model: `hf:${named}`,
    quantization: quantization.value,
    hubEndpoint: endpoint ?? "",
  };
}

/** Returns the page of a model on the Hub. */
export function pageOnHub({ model, hubEndpoint }: HubModel): URL {
  return new URL(`${hubEndpoint}/${model.slice("hf:".length)}`);
}

/**
 * Returns as what a model is kept here whole, if it is: as it was published, or as it was converted
 * here. Then the Hub is not asked.
 */
export async function keptHere({
  model,
  quantization,
}: HubModel): Promise<"published" | "converted" | undefined> {
  const kept = await cachedModels().catch(() => []);
  const has = (name: string) => kept.some(({ url, complete }) => complete && name === url);
  if (has(model)) return "published";
  return has(`${model}?quantization=${quantization}`) ? "converted" : undefined;
}

/** Returns what to know before a checkpoint is converted, in sentences. */
export function conversionFacts(found: Availability): string[] {
  const { bytes = 0, conversion } = found;
  if (!conversion) return [];
  const { fetchBytes, fetchedBytes, bytesPerSecond, license } = conversion;
  const missing = fetchBytes - fetchedBytes;
  const host = endpoint === undefined ? "" : new URL(endpoint).host;
  return [
    words.conversionFetches(size(missing), host),
    ...(fetchedBytes > 0 ? [words.conversionGoesOn(size(fetchedBytes))] : []),
    words.conversionKeeps(size(bytes)),
    ...(found.device === "webgpu" ? [words.conversionNeeds(size(bytes))] : []),
    bytesPerSecond === undefined
      ? words.conversionTimeUnknown
      : words.conversionTakes(size(bytesPerSecond), duration(missing / bytesPerSecond)),
    license === undefined ? words.conversionUnlicensed : words.conversionLicense(license),
    words.conversionPauses,
  ];
}
