/**
 * Keeps the page for visits without a network: what it was built from, as far as the bytes are
 * those of the build. Models, and all that is not this page's own, pass by.
 */
export {}; // Else its names would be those of every file.

declare const self: ServiceWorkerGlobalScope;
/**
 * The files of the page with their SHA-256, which the build fills in, so that this script changes
 * with any of them. `./` is the page itself; `first` are those that a first view needs, `onDemand`
 * those that few visitors need, which are kept once they were used.
 */
declare const FILES: {
  readonly version: string;
  readonly first: readonly string[];
  readonly onDemand: readonly string[];
  readonly sha256: Readonly<Record<string, string>>;
};

const CACHE = `page-${FILES.version}`;
const at = (file: string) => new URL(file, self.registration.scope).href;
/** Lists that a site changes while the page stays as it is: the network's first. */
const LISTS = [at("models/index.json"), at("samples/index.json")];
const FILE_OF = new Map(Object.keys(FILES.sha256).map((file) => [at(file), file]));

self.addEventListener("install", (event) => {
  event.waitUntil(install());
});

self.addEventListener("activate", (event) => {
  event.waitUntil(activate());
});

// The page is being used: what came before this worker did is kept, too.
self.addEventListener("message", (event) => {
  event.waitUntil(keepRest());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || request.headers.has("range")) return;
  const [address = ""] = request.url.split(/[?#]/);
  if (request.mode === "navigate") {
    if (address === at("./")) event.respondWith(page(request));
  } else if (LISTS.includes(request.url)) event.respondWith(list(request));
  else if (FILE_OF.has(request.url)) event.respondWith(file(FILE_OF.get(request.url)!));
});

/** Fails where a file of a first view is not that of the build: the next visit tries again. */
async function install(): Promise<void> {
  for (const name of FILES.first)
    if (!(await fetchAndKeep(name)).right) throw new Error(`${name} is not as it was built`);
  // A site may offer no models.
  const cache = await caches.open(CACHE);
  for (const url of LISTS) await cache.add(new Request(url, { redirect: "error" })).catch(() => {});
  await self.skipWaiting();
}

async function activate(): Promise<void> {
  for (const name of await caches.keys())
    if (name.startsWith("page-") && name !== CACHE) await caches.delete(name);
  await self.clients.claim();
}

/** Keeps what is not there yet; what does not come right now is kept when it is used. */
async function keepRest(): Promise<void> {
  for (const name of Object.keys(FILES.sha256))
    if (!FILES.onDemand.includes(name) && !(await kept(name)))
      await fetchAndKeep(name).catch(() => {});
}

/** The page as its server has it, which may be a newer one, else as it was built. */
async function page(request: Request): Promise<Response> {
  try {
    const response = await fetch(request);
    if (!response.ok || (await keepIfRight("./", response))) return response;
    // A newer one, or a broken one in the browser's own cache.
    const fresh = await fetch(new Request(request, { cache: "reload" }));
    await keepIfRight("./", fresh);
    return fresh;
  } catch (error) {
    const copy = await kept("./");
    if (copy) return copy;
    throw error;
  }
}

/** What the network says, and what it said last where there is none. */
async function list(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  try {
    // No other host hears of it.
    const response = await fetch(new Request(request, { redirect: "error" }));
    if (response.ok) await cache.put(request.url, response.clone());
    return response;
  } catch (error) {
    const said = await cache.match(request.url);
    if (said) return said;
    throw error;
  }
}

/** A file of the build. */
async function file(name: string): Promise<Response> {
  const copy = await kept(name);
  if (copy) return copy;
  const { response, right } = await fetchAndKeep(name);
  // Others, such as samples, a site may change under the same name; these are named by content.
  if (!right && response.ok && name.startsWith("assets/")) return Response.error();
  return response;
}

/** A copy that is kept and right; one that is broken is dropped. */
async function kept(name: string): Promise<Response | undefined> {
  const cache = await caches.open(CACHE);
  const copy = await cache.match(at(name));
  if (!copy) return undefined;
  if (await matches(name, copy)) return copy;
  await cache.delete(at(name));
  return undefined;
}

/**
 * Fetches a file, which is kept where it is right. One that is not is fetched once more, past the
 * browser's own cache, which may be where the wrong bytes lie.
 */
async function fetchAndKeep(name: string): Promise<{ response: Response; right: boolean }> {
  const fetched = await fetchOnce(name, "default").catch(() => undefined);
  if (fetched?.right) return fetched;
  return fetchOnce(name, "reload");
}

async function fetchOnce(
  name: string,
  cache: RequestCache,
): Promise<{ response: Response; right: boolean }> {
  const response = await fetch(at(name), { cache, redirect: "error" });
  return { response, right: response.ok && (await keepIfRight(name, response)) };
}

/** Keeps an answer if it is the file of the build, and there is room. Returns whether it is. */
async function keepIfRight(name: string, response: Response): Promise<boolean> {
  if (!(await matches(name, response))) return false;
  const cache = await caches.open(CACHE);
  await cache.put(at(name), response.clone()).catch(() => {});
  return true;
}

async function matches(name: string, response: Response): Promise<boolean> {
  const bytes = await response.clone().arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hex = [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex === FILES.sha256[name];
}
