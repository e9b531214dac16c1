/** Models that know photographs: those that this site offers, and those that were published. */
import { largestWithin, type Published, published } from "./catalogue.js";
import { button, byId, make } from "./dom.js";
import { size } from "./format.js";
import { chooseOnHub, FROM_HUB, hubOptions, quantizationsOnHub } from "./hub-panel.js";
import type { Offer } from "./models.js";
import { remember, remembered } from "./remembered.js";
import { words } from "./words/index.js";

const list = byId("photo-models-list", HTMLUListElement);
const memoryField = byId("gpu-memory-field", HTMLLabelElement);
const memory = byId("gpu-memory", HTMLSelectElement);
const cache = byId("model-kv-cache", HTMLSelectElement);
const template = byId("template", HTMLSelectElement);

const KEPT = "univi.gpu-memory";

/** What is listed now, to list it anew where a choice changes what fits. */
let listed: { readonly offered: readonly Offer[]; readonly choose: (value: string) => void };

memory.value = remembered(KEPT) ?? "";
if (memory.selectedIndex < 0) memory.value = "";
memory.addEventListener("change", () => {
  remember(KEPT, memory.value);
  listPhotoModels(listed.offered, listed.choose);
});
cache.addEventListener("change", () => listPhotoModels(listed.offered, listed.choose));

/**
 * Lists what the site offers and what was published, each one press from being chosen: `choose`
 * takes a value of the list of models.
 */
export function listPhotoModels(offered: readonly Offer[], choose: (value: string) => void): void {
  listed = { offered, choose };
  const entry = (name: string, more: readonly string[], act: () => void) =>
    make(
      "li",
      {},
      button("button", name, act),
      ...more.map((text) => make("p", { className: "small muted" }, text)),
    );
  const own = offered.flatMap(({ name, note = "", photographs }, index) =>
    photographs ? [entry(name, [note], () => choose(String(index)))] : [],
  );
  const onHub = hubOptions().length === 0 ? [] : published(quantizationsOnHub());
  const others = onHub.map((model) => {
    const act = () => {
      chooseOnHub(model.repository, chosenOf(model).quantization);
      template.value = model.template ?? "";
      template.dispatchEvent(new Event("change", { bubbles: true }));
      choose(FROM_HUB);
    };
    return entry(model.name, facts(model), act);
  });
  memoryField.hidden = others.length === 0;
  const none = make("li", { className: "small muted" }, words.noPhotoModels);
  const all = [...own, ...others];
  list.replaceChildren(...(all.length > 0 ? all : [none]));
}

/** Bytes of the GPU, as far as they were said: a browser does not know them. */
function memoryBytes(): number | undefined {
  return memory.value === "" ? undefined : Number(memory.value) * 1e9;
}

/** The best quantization that fits; the one between, where nothing is known; else the smallest. */
function chosenOf(model: Published) {
  const [smallest] = model.choices;
  const bytes = memoryBytes();
  const usual = model.choices.find(({ quantization }) => quantization === "q4_k_m");
  const chosen = bytes === undefined ? usual : largestWithin(model, cache.value, bytes);
  return (chosen ?? smallest)!;
}

/** What to know of a published model before it is chosen, in sentences. */
function facts(model: Published): string[] {
  const { quantization, bytes, memoryBytes: needed } = chosenOf(model);
  const room = needed[cache.value] ?? 0;
  const limit = memoryBytes();
  const fits = limit === undefined ? [] : [room <= limit ? words.fits : words.tooLarge];
  const needs = words.publishedNeeds(size(model.fetchBytes), quantization, size(bytes), size(room));
  return [
    words.publishedGoodAt[model.id] ?? model.goodAt,
    [needs, ...fits, `${model.license}.`].join(" "),
  ];
}
