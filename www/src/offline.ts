/**
 * The page without a network: a service worker keeps it from the first visit on. Models are kept by
 * the package itself.
 */

/** Begins to keep what a first view needs, once it has come. */
export function keepOffline(): void {
  if (!("serviceWorker" in navigator) || import.meta.env.DEV) return;
  const register = () =>
    void navigator.serviceWorker.register("./service-worker.js").catch(() => {}); // Then it is online only.
  if (document.readyState === "complete") register();
  else addEventListener("load", register, { once: true });
}

/** Keeps the rest as well: what computes, other languages, samples. */
export async function keepAllOffline(): Promise<void> {
  if (!("serviceWorker" in navigator) || import.meta.env.DEV) return;
  (await navigator.serviceWorker.ready).active?.postMessage("all");
}
