// Begins to keep the page for visits without a network. A script of its own, so that a visitor whose
// copy of any other script is broken still gets the service worker, which replaces that copy.
if ("serviceWorker" in navigator) {
  addEventListener("load", () => {
    navigator.serviceWorker.register("./service-worker.js").catch(() => {}); // Then it is online only.
  });
}
