/** Starts the package's workers: the one that a model runs in, and those that convert. */
import { UniviError } from "./error.js";
import { beforeMoving } from "./moved.js";

/**
 * Starts the worker that a model runs in. `onFailure` hears where it can't be started, or fails
 * later on.
 *
 * Throws where this browser refuses at once.
 */
export function startWorker(onFailure: (error: UniviError) => void): Worker {
  // Bundlers find a worker by this expression, in one piece.
  const start = () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  return started("dist/worker.js", start, onFailure);
}

/** Starts a worker that converts, as {@link startWorker}. */
export function startConversionWorker(onFailure: (error: UniviError) => void): Worker {
  const start = () =>
    new Worker(new URL("./conversion-worker.js", import.meta.url), { type: "module" });
  return started("dist/conversion-worker.js", start, onFailure);
}

function started(
  file: string,
  start: () => Worker,
  onFailure: (error: UniviError) => void,
): Worker {
  const Native = globalThis.Worker;
  let script = "";
  // Bundlers recognize `new Worker(new URL(..))` alone, and it is they who know the script's
  // address. So it is met on its way into the browser.
  globalThis.Worker = class extends Native {
    constructor(url: string | URL, options?: WorkerOptions) {
      const address = beforeMoving(new URL(url, globalThis.location?.href), file);
      script = address.href;
      super(sameOrigin(address) ? address : relay(address, options), options);
    }
  };
  let worker: Worker;
  try {
    worker = start();
  } catch (cause) {
    throw unstarted(script, (cause as Error).message, cause);
  } finally {
    globalThis.Worker = Native;
  }
  worker.onerror = ({ message }) =>
    onFailure(
      message
        ? new UniviError("internal", `the worker failed: ${message}`)
        : unstarted(script, "the browser could not load it, or the page's policy forbids it"),
    );
  return worker;
}

/** Browsers start workers from scripts of the page's own origin. */
function sameOrigin(url: URL): boolean {
  return url.protocol === "blob:" || url.protocol === "data:" || url.origin === globalThis.origin;
}

/** A script of the page's origin that loads the one of another. */
function relay(url: URL, options?: WorkerOptions): string {
  const load = options?.type === "module" ? "import" : "importScripts";
  const argument = JSON.stringify(url.href);
  const source = load === "import" ? `import ${argument};` : `importScripts(${argument});`;
  return URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
}

function unstarted(script: string, why: string, cause?: unknown): UniviError {
  const remedy =
    "serve the package's scripts beside each other, let the policy's worker-src allow them (and " +
    "blob: where they come from another origin), or create the model with worker: false";
  return new UniviError("io", `${script}: the worker could not be started: ${why}; ${remedy}`, {
    cause,
  });
}
