/**
 * The page without a network: a service worker keeps it from the first visit on, which
 * `public/offline.js` registers. Models are kept by the package itself.
 */

/** Keeps the rest as well: what computes, other languages, samples. */
export async function keepAllOffline(): Promise<void> {
  if (!("serviceWorker" in navigator) || import.meta.env.DEV) return;
  (await navigator.serviceWorker.ready).active?.postMessage("all");
}
