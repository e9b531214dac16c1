/** The files of a repository on a Hub. */
import { shortAddress } from "../address.js";
import { fetchAll } from "../download.js";
import { UniviError } from "../error.js";
import type { Network } from "../network.js";
import type { HubAccess } from "./access.js";
import { isFilePath } from "./address.js";
import type { HubFile, HubListing } from "./repository.js";

/** Longer than any listing that a Hub sends whole. */
const MAX_LISTING_BYTES = 16 << 20;

/**
 * Asks a Hub what a repository holds.
 *
 * Throws `io` where the Hub refuses or can't be reached, `bad-file` where its answer makes no
 * sense, or the reason of an aborted `signal`.
 */
export async function listHub(
  network: Network & { readonly hub: HubAccess },
  repository: string,
  revision: string,
  signal: AbortSignal,
): Promise<HubListing> {
  const at = encodeURIComponent(revision);
  const url = new URL(`${network.hub.endpoint}/api/models/${repository}/revision/${at}?blobs=true`);
  const bytes = await fetchAll(network, url, MAX_LISTING_BYTES, signal);
  let listing: unknown;
  try {
    listing = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw bad(url, `it is no JSON: ${(cause as Error).message}`);
  }
  const { sha, siblings, cardData, tags } = Object(listing) as Record<string, unknown>;
  if (typeof sha !== "string" || !/^[0-9a-f]{40}$/.test(sha)) throw bad(url, "it names no commit");
  if (!Array.isArray(siblings)) throw bad(url, "it lists no files");
  const files = siblings.map((entry: unknown): HubFile => {
    const { rfilename: name, size: bytes, blobId, lfs } = Object(entry) as Record<string, unknown>;
    if (typeof name !== "string" || !isFilePath(name) || !isLength(bytes))
      throw bad(url, `a file is listed as ${JSON.stringify(entry)?.slice(0, 120)}`);
    // Of a large file Git has a note alone, of where it is.
    const isBlob = !lfs && typeof blobId === "string" && /^[0-9a-f]{40}$/.test(blobId);
    return { name, bytes, ...(isBlob ? { blob: blobId } : {}) };
  });
  return { repository, commit: sha, files, license: licenseOf(cardData, tags) };
}

function isLength(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function licenseOf(cardData: unknown, tags: unknown): string | undefined {
  const { license } = Object(cardData) as Record<string, unknown>;
  const tag = (Array.isArray(tags) ? tags : []).find(
    (tag: unknown): tag is string => typeof tag === "string" && tag.startsWith("license:"),
  );
  return typeof license === "string" ? license : tag?.slice("license:".length);
}

function bad(url: URL, why: string): UniviError {
  return new UniviError(
    "bad-file",
    `${shortAddress(url)}: the Hub's list of files can't be used: ${why}; is hubEndpoint right?`,
  );
}
