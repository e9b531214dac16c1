/**
 * Choices between visits. A browser that keeps nothing, as one that blocks a site's data, throws at
 * the first look; then each visit begins with the defaults.
 */

/** Returns what was chosen before. */
export function remembered(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Remembers a choice, where the browser does. */
export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // It holds for this visit.
  }
}
