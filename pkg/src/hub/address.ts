/** Addresses of models on a Hub: `hf:OWNER/NAME`, `hf:OWNER/NAME@REVISION`, `hf:../FILE`. */
import { UniviError } from "../error.js";
import { HUGGING_FACE, type HubAccess } from "./access.js";

/** What a Hub address names. */
export interface HubAddress {
  /** Owner and name. */
  readonly repository: string;
  /** A branch, tag or commit. */
  readonly revision: string;
  /** A file of the repository; without it, the repository as a whole. */
  readonly file: string | undefined;
}

const SCHEME = /^hf:/i;
/** A name on the Hub; two dots in a row are in none. */
const NAME = /^(?!.*\.\.)[\w][\w.-]{0,95}$/;
const REVISION = /^(?!.*\.\.)[\w][\w./-]{0,255}$/;

/** Returns whether a model is named by a Hub address. */
export function isHubAddress(model: unknown): model is string | URL {
  return (typeof model === "string" || model instanceof URL) && SCHEME.test(String(model));
}

/**
 * Reads a Hub address. A revision that has slashes, such as `refs/pr/1`, is written with `%2F`.
 *
 * @throws UniviError `bad-request`.
 */
export function parseHubAddress(address: string | URL): HubAddress {
  const text = String(address).slice(0, 1000);
  const [owner = "", nameAndRevision = "", ...path] = text.replace(SCHEME, "").split("/");
  const [name = "", ...revisions] = nameAndRevision.split("@");
  const file = path.length === 0 ? undefined : path.join("/");
  const revision = decoded(revisions[0] ?? "main");
  const known =
    NAME.test(owner) &&
    NAME.test(name) &&
    revisions.length <= 1 &&
    revision !== undefined &&
    REVISION.test(revision) &&
    (file === undefined || isFilePath(file));
  if (!known)
    throw new UniviError(
      "bad-request",
      `"${text.slice(0, 120)}" names nothing on the Hub; write hf:OWNER/NAME, with @REVISION or ` +
        "/FILE behind it where another than the main branch, or one file, is meant",
    );
  return { repository: `${owner}/${name}`, revision, file };
}

/** Returns the address as it is written shortest: what the store calls the model. */
export function hubName({ repository, revision, file }: HubAddress): string {
  const at = revision === "main" ? "" : `@${encodeURIComponent(revision)}`;
  return `hf:${repository}${at}${file === undefined ? "" : `/${file}`}`;
}

/** Returns the address of a file at a commit. */
export function fileAddress(
  { endpoint }: HubAccess,
  repository: string,
  commit: string,
  path: string,
): URL {
  const encoded = path.split("/").map(encodeURIComponent).join("/");
  return new URL(`${endpoint}/${repository}/resolve/${commit}/${encoded}`);
}

/** Returns whether a path stays in its repository. */
export function isFilePath(path: string): boolean {
  const plain = (part: string) => part !== "" && part !== "." && part !== "..";
  return path.length <= 1024 && path.split("/").every(plain);
}

/**
 * Checks the address of another Hub.
 *
 * @throws UniviError `bad-request`.
 */
export function hubAccess(endpoint: string | URL = HUGGING_FACE, token?: string): HubAccess {
  const url = URL.canParse(String(endpoint)) ? new URL(String(endpoint)) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.search || url.hash)
    throw new UniviError(
      "bad-request",
      `hubEndpoint is "${String(endpoint).slice(0, 120)}", expected an address such as ` +
        HUGGING_FACE,
    );
  const access = { endpoint: `${url.origin}${url.pathname}`.replace(/\/+$/, "") };
  return token === undefined ? access : { ...access, token };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
