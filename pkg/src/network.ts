/** Where requests may go, and why one had no answer. */
import { shortAddress } from "./address.js";
import { UniviError } from "./error.js";
import { type HubAccess, refusalOf } from "./hub/access.js";
import type { Bindings } from "./module.js";

/** What files are fetched with. */
export interface Network {
  /** The module's decisions about transfers. */
  readonly module: Pick<Bindings, "Transfer">;
  /** The only origins that are asked; without them, those of the addresses that the page gives. */
  readonly allowedOrigins: readonly string[] | undefined;
  /**
   * The Hub that addresses of its origin are asked from. It sends on to wherever it keeps large
   * files, and is followed there.
   */
  readonly hub?: HubAccess | undefined;
}

/** So long a server has to show that it is there. */
const PROBE_MS = 5000;

const FILE_ADDRESS =
  "a page can't read files by their address; give it File objects, or serve the folder";

/** Origins that have answered once: where one does not later on, patience may help. */
const answered = new Set<string>();

/** A request had no answer, and another one may have. */
export class Unanswered extends Error {}

/**
 * Sends a request. Throws {@link Unanswered}; `io` where no patience helps, with the remedy; or the
 * reason of an aborted `signal`.
 */
export async function request(
  { allowedOrigins, hub }: Pick<Network, "allowedOrigins" | "hub">,
  url: URL,
  {
    method = "GET",
    headers = new Headers(),
    body,
  }: { method?: "GET" | "HEAD" | "POST"; headers?: Headers; body?: string | undefined },
  signal: AbortSignal,
): Promise<Response> {
  if (allowedOrigins && url.protocol === "file:") throw refused(url, FILE_ADDRESS);
  if (allowedOrigins && isRemote(url) && !allowedOrigins.includes(url.origin))
    throw refused(url, `the page does not allow requests to ${url.origin} (allowedOrigins)`);
  const ofHub = hub !== undefined && url.origin === new URL(hub.endpoint).origin ? hub : undefined;
  if (ofHub?.token !== undefined) headers.set("Authorization", `Bearer ${ofHub.token}`);
  const follows = ofHub !== undefined || allowedOrigins === undefined;
  const policy = new PolicyWatch();
  try {
    const response = await fetch(url, {
      method,
      headers,
      ...(body === undefined ? {} : { body }),
      signal,
      cache: "no-store", // The store keeps the file; the browser's own cache would a second time.
      redirect: follows ? "follow" : "manual",
    });
    if (!follows && isRedirect(response))
      throw refused(
        url,
        "the server sends on to another address, which a page with allowedOrigins does not " +
          "follow; give the final address",
      );
    answered.add(url.origin);
    const refusal = ofHub && refusalOf(ofHub, url, response);
    if (refusal?.passes) throw new Unanswered(refusal.why);
    if (refusal) throw refused(url, refusal.why);
    return response;
  } catch (cause) {
    signal.throwIfAborted();
    if (cause instanceof UniviError || cause instanceof Unanswered) throw cause;
    // Headers that another origin has to allow may be what failed; then it goes without them.
    if (headers.has("Range") && answered.has(url.origin)) throw new Unanswered(reasonOf(cause));
    // A policy that allowed a file's address would not help: no page may read it.
    const why = url.protocol === "file:" ? undefined : await policy.explains(url);
    if (why) throw refused(url, why, cause);
    throw await explained(url, cause, allowedOrigins === undefined);
  } finally {
    policy.end();
  }
}

function isRemote(url: URL): boolean {
  return url.protocol !== "data:" && url.protocol !== "blob:";
}

function isRedirect({ type, status }: Response): boolean {
  return type === "opaqueredirect" || (status >= 300 && status < 400 && status !== 304);
}

/** Listens whether the page's content security policy forbids a request. */
class PolicyWatch {
  readonly #blocked: string[] = [];
  readonly #hear = (event: Event) => {
    this.#blocked.push((event as SecurityPolicyViolationEvent).blockedURI);
  };

  constructor() {
    globalThis.addEventListener?.("securitypolicyviolation", this.#hear);
  }

  async explains(url: URL): Promise<string | undefined> {
    // Browsers report it in a task of its own.
    await new Promise((resolve) => setTimeout(resolve));
    const blocked = this.#blocked.some((uri) => uri === url.origin || url.href.startsWith(uri));
    return blocked
      ? `the page's content security policy forbids it; its connect-src must allow ${url.origin}`
      : undefined;
  }

  end(): void {
    globalThis.removeEventListener?.("securitypolicyviolation", this.#hear);
  }
}

/** Why `fetch` failed, as far as a browser lets a page know. */
async function explained(url: URL, cause: unknown, mayProbe: boolean): Promise<Error> {
  const page = globalThis.location === undefined ? undefined : globalThis.origin;
  if (url.protocol === "file:") return refused(url, FILE_ADDRESS, cause);
  if (!["http:", "https:"].includes(url.protocol))
    return refused(url, `it can't be read: ${reasonOf(cause)}`, cause);
  if (url.username || url.password)
    return refused(url, "an address with a user name or password can't be fetched", cause);
  if (page?.startsWith("https:") && url.protocol === "http:" && !isLoopback(url))
    return refused(
      url,
      "a page that comes over https may not fetch over http; serve it over https",
      cause,
    );
  if (globalThis.navigator?.onLine === false && !isLoopback(url))
    return new Unanswered("this device is offline");
  if (answered.has(url.origin)) return new Unanswered(reasonOf(cause));
  const other = page !== undefined && url.origin !== page;
  const cors =
    `${url.origin} does not let pages of ${page} read it (CORS): it has to send the header ` +
    "Access-Control-Allow-Origin";
  if (other && mayProbe && !globalThis.crossOriginIsolated) {
    if (await isThere(url)) return refused(url, cors, cause);
  } else if (other) {
    return refused(url, `the server can't be reached, or ${cors}`, cause);
  }
  return refused(url, `the server can't be reached: ${reasonOf(cause)}`, cause);
}

/** Whether a server answers at all, which a page may learn without CORS. */
async function isThere(url: URL): Promise<boolean> {
  const signal = AbortSignal.timeout(PROBE_MS);
  return fetch(url, { method: "HEAD", mode: "no-cors", cache: "no-store", signal }).then(
    () => true,
    () => false,
  );
}

function isLoopback({ hostname }: URL): boolean {
  return /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error && cause.message ? `${message} (${cause.message})` : message;
}

function refused(url: URL, why: string, cause?: unknown): UniviError {
  return new UniviError("io", `${shortAddress(url)}: ${why}`, { cause });
}
