/** Merging a picture or a clip anew, to more or fewer tokens, to see what becomes of it. */
import { type TokenMap, type Univi, UniviError } from "univi";

import { type Attachment, partsOf } from "./attachment.js";
import { button, make } from "./dom.js";
import { number } from "./format.js";
import { mergingWords } from "./words/merging.js";

/** How the model is asked for. */
export interface Merger {
  /** The model, loaded where it is not; undefined where it can't be. */
  readonly ready: () => Promise<Univi | undefined>;
}

/**
 * A slider over the tokens of a picture, or of each event of a clip. `draw` gets what the model
 * makes of each of its places, and `asked` once more where it goes back.
 */
export function budgetSlider(
  attachment: Attachment,
  asked: TokenMap,
  merger: Merger,
  signal: AbortSignal,
  draw: (tokenMap: TokenMap) => void,
): HTMLElement | undefined {
  const [event] = asked.events;
  const finest = event?.stages[0];
  if (attachment.kind === "live" || !event || !finest) return undefined;
  const words = mergingWords();
  const patches = asked.patchesPerSide ** 2;
  // As many as the model takes: where each patch of a picture stays for itself at first.
  const most = Math.floor((patches * event.tokens) / finest.tokens);
  const slider = make("input", {
    type: "range",
    min: String(event.stages.length),
    max: String(most),
    step: "1",
  });
  slider.value = String(event.tokens);
  const value = make("output", { className: "small" });
  const status = make("p", { className: "small muted merging-status" }, words.play);
  status.setAttribute("role", "status");
  const back = button("button quiet small", words.reset, () => {
    wanted = undefined;
    slider.value = String(event.tokens);
    say();
    draw(asked);
    status.textContent = words.play;
    back.hidden = true;
    slider.focus();
  });
  back.hidden = true;
  let wanted: number | undefined;
  let merging = false;

  const say = () => {
    value.textContent = words.value(slider.valueAsNumber);
    slider.setAttribute("aria-valuetext", value.textContent);
  };
  /** Merges to what is wanted last; what was wanted meanwhile is left out. */
  const merge = async () => {
    if (merging) return;
    merging = true;
    try {
      while (wanted !== undefined && !signal.aborted) {
        const visualTokens = wanted;
        status.textContent = words.merging;
        const univi = await merger.ready();
        if (signal.aborted || wanted === undefined) return;
        if (!univi?.info.vision) {
          status.textContent = words.noModel;
          return;
        }
        const began = performance.now();
        const map = await univi.tokenMap(partsOf([attachment])[0]!, { visualTokens, signal });
        if (signal.aborted || wanted === undefined) return;
        const seconds = (performance.now() - began) / 1000;
        draw(map);
        back.hidden = false;
        status.textContent = words.changed(
          number(map.tokens),
          number(asked.tokens),
          number(seconds, 2),
        );
        if (wanted === visualTokens) wanted = undefined;
      }
    } catch (error) {
      if (signal.aborted) return;
      wanted = undefined;
      const why = error instanceof UniviError ? error.message : String(error);
      status.textContent = words.failed(why);
    } finally {
      merging = false;
    }
  };
  slider.addEventListener("input", () => {
    wanted = slider.valueAsNumber;
    say();
    void merge();
  });
  say();
  const label = make("label", { className: "merging-row" });
  label.append(make("span", {}, words.budget(asked.kind === "clip")), slider, value);
  return make("div", { className: "merging" }, label, status, back);
}
