/**
 * Links that carry a question, a model's address and settings. Pictures and clips stay here, and
 * what stands behind a link's `#` is sent to no server: loaded when one is made or followed.
 */
import type { Composer } from "./composer.js";
import { offerUndo } from "./notice.js";
import { changedSettings, restoreSettings, takeSettings } from "./settings.js";
import { linkWords } from "./words/link.js";

const QUESTION = "question";

/** Returns a link to a question, with the settings that are not the page's own. */
export function linkTo(question: string, model: string | undefined): string {
  const link = new URL(location.pathname, location.origin);
  if (model !== undefined) link.searchParams.set("model", model);
  link.hash = new URLSearchParams({ [QUESTION]: question, ...changedSettings() }).toString();
  return link.href;
}

/** Does what the link says by which the page was opened; asks nothing. */
export function followLink(composer: Composer): void {
  const { [QUESTION]: question, ...settings } = Object.fromEntries(
    new URLSearchParams(location.hash.slice(1)),
  );
  // Once: after a reload, what was written since then stands there.
  history.replaceState(history.state, "", location.pathname + location.search);
  if (question !== undefined && composer.text === "") composer.text = question;
  if (Object.keys(settings).length === 0) return;
  const { taken, refused } = takeSettings(settings);
  const words = linkWords();
  const said = [
    ...(taken.length > 0 ? [words.settingsOfLink(taken.join(", "))] : []),
    ...(refused.length > 0 ? [words.notOfLink(refused.join(", "))] : []),
  ];
  offerUndo(said.join(" "), restoreSettings);
}
