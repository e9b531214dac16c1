/** Models on a Hub: those that are kept here, those that load from there, those to convert. */
import type { ModelSource } from "../calls.js";
import type { ConversionPlan, ConversionRequest } from "../conversion/calls.js";
import { convert, planConversion } from "../conversion/convert.js";
import { UniviError } from "../error.js";
import type { Client } from "../rpc.js";
import { isKept } from "../store/cached.js";
import type { CacheChoice, LoadProgress } from "../types.js";
import { fileAddress, hubAccess, hubName, parseHubAddress } from "./address.js";

/** How a language model is stored unless it is said otherwise. */
const QUANTIZATION = "q4_k_m";

/** What is said of a model on a Hub beside its address. */
export interface HubChoice {
  readonly quantization: string | undefined;
  readonly hubEndpoint: string | URL | undefined;
  readonly token: string | undefined;
  readonly cache: CacheChoice | undefined;
  readonly allowedOrigins: readonly string[] | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Where a model on a Hub is. What lies there converted already is `asPublished`. */
export type HubModel =
  | { readonly kind: "loadable"; readonly source: ModelSource; readonly asPublished: boolean }
  | { readonly kind: "checkpoint"; readonly request: ConversionRequest };

/**
 * Finds a model on a Hub. One that is kept whole is found without a request.
 *
 * Rejects with a `UniviError`, or with the reason of an aborted `signal`.
 */
export async function findHubModel(
  client: Client,
  address: string | URL,
  choice: HubChoice,
): Promise<HubModel> {
  const { quantization = QUANTIZATION, cache = "auto", allowedOrigins, signal } = choice;
  const named = parseHubAddress(address);
  const hub = hubAccess(choice.hubEndpoint, choice.token);
  const key = hubName(named);
  const convertedKey = `${key}?quantization=${quantization}`;
  for (const kept of cache === "none" ? [] : [key, convertedKey])
    if (await isKept(kept)) return loadable({ kind: "kept", key: kept }, kept === key);
  const { repository, revision } = named;
  const origins = allowedOrigins === undefined ? {} : { allowedOrigins };
  const params = { hub, repository, revision, ...origins };
  const listing = await client.call("listHub", params, { signal });
  const file = named.file ?? "manifest.json";
  if (listing.files.some(({ name }) => name === file)) {
    const url = fileAddress(hub, repository, listing.commit, file).href;
    return loadable({ kind: "url", url, resolves: false, key, hub }, true);
  }
  if (named.file !== undefined)
    throw new UniviError("io", `${key}: the repository has no file ${named.file}`);
  if (cache !== "auto" && cache !== "opfs")
    throw new UniviError(
      "bad-request",
      `${key} is a checkpoint: what it is converted to is kept in OPFS, so cache must be "auto" ` +
        `or "opfs", not "${cache}"`,
    );
  const request = { hub, listing, quantization, key: convertedKey, ...origins };
  return { kind: "checkpoint", request };
}

function loadable(source: ModelSource, asPublished: boolean): HubModel {
  return { kind: "loadable", source, asPublished };
}

/** Converts a checkpoint of a Hub, unless that was done meanwhile -> where the model is. */
export async function convertHubModel(
  request: ConversionRequest,
  onProgress: (progress: LoadProgress) => void,
  signal: AbortSignal | undefined,
): Promise<ModelSource> {
  const { key } = request;
  onProgress({ phase: "manifest", loaded: 0, total: 0, file: key });
  await convert(request, () => isKept(key), onProgress, signal);
  return { kind: "kept", key };
}

/** What conversion would take. */
export interface PlannedHubModel {
  readonly plan: ConversionPlan;
  /** The manifest that there will be: it says what the device needs. */
  readonly source: ModelSource;
}

/** Plans the conversion of a checkpoint of a Hub. */
export async function planHubModel(
  request: ConversionRequest,
  signal: AbortSignal | undefined,
): Promise<PlannedHubModel> {
  const plan = await planConversion(request, signal);
  const manifest = new File([plan.manifest], "manifest.json");
  return { plan, source: { kind: "files", files: [manifest] } };
}
