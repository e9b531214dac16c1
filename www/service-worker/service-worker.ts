/**
 * Keeps the page for visits without a network. Models, and all that is not this page's own, pass
 * by.
 */
export {}; // Else its names would be those of every file.

declare const self: ServiceWorkerGlobalScope;
/**
 * The files of the page, which the build fills in: those that a first view needs, and those that
 * come when they are used.
 */
declare const FILES: {
  readonly version: string;
  readonly first: readonly string[];
  readonly later: readonly string[];
};

const CACHE = `page-${FILES.version}`;
const at = (file: string) => new URL(file, self.registration.scope).href;
/** Lists that change while the page does not: the network's first. */
const LISTS = [at("models/index.json"), at("samples/index.json")];

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
  const page =
    request.mode === "navigate" && new URL(request.url).href.split(/[?#]/)[0] === at("./");
  const url = page ? at("./") : request.url;
  if (page || LISTS.includes(url)) event.respondWith(fromNetwork(url, request));
  else if ([...FILES.first, ...FILES.later].some((file) => at(file) === url))
    event.respondWith(fromCache(url, request));
});

async function install(): Promise<void> {
  const cache = await caches.open(CACHE);
  await cache.addAll(FILES.first.map(at));
  // A site may offer no models.
  for (const list of LISTS) await cache.add(list).catch(() => {});
  await self.skipWaiting();
}

async function activate(): Promise<void> {
  for (const name of await caches.keys())
    if (name.startsWith("page-") && name !== CACHE) await caches.delete(name);
  await self.clients.claim();
}

/** Keeps what is not there yet. */
async function keepRest(): Promise<void> {
  const cache = await caches.open(CACHE);
  for (const file of FILES.later) if (!(await cache.match(at(file)))) await cache.add(at(file));
}

/** What the network says, and what it said last where there is none. */
async function fromNetwork(url: string, request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(url, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(url);
    if (kept) return kept;
    throw error;
  }
}

/** Files of a build never change: one that is kept is right. */
async function fromCache(url: string, request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(url);
  if (kept) return kept;
  const response = await fetch(request);
  if (response.ok) await cache.put(url, response.clone());
  return response;
}
