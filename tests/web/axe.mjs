/** WCAG checks of the page by axe-core. */
import assert from "node:assert/strict";
import { createRequire } from "node:module";

/** The script that checks a page; its policy may have to be left out. */
export const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/**
 * Fails for whatever axe-core finds wrong with the page as it is.
 *
 * @param {import("./demo.mjs").Page} page
 * @param {string} state
 */
export async function assertAccessible(page, state) {
  const violations = await page.evaluate(async (tags) => {
    const { axe } = /** @type {typeof globalThis & { axe: { run: Function } }} */ (globalThis);
    /**
     * @type {{ violations: { id: string, help: string, nodes: { html: string, failureSummary:
     * string }[] }[] }}
     */
    const found = await axe.run(document, { runOnly: tags });
    // What is scrolled is half behind the composer and the bar at the head, now and then.
    const scrolled = /partially obscured/;
    // A sheet is a dialog over a page that is inert, whose landmark and heading don't count then.
    const covered = document.querySelector(":popover-open") !== null;
    const ofPage = ["landmark-one-main", "page-has-heading-one"];
    return found.violations.flatMap(({ id, help, nodes }) =>
      nodes
        .filter(({ failureSummary }) => !(id === "target-size" && scrolled.test(failureSummary)))
        .filter(() => !(covered && ofPage.includes(id)))
        .map(({ html, failureSummary }) => `${id}: ${help}\\n  ${html}\\n  ${failureSummary}`),
    );
  }, TAGS);
  assert.deepEqual(violations, [], state);
}
