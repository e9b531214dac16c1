/** The methods that a worker that converts serves, with what crosses the channel for each. */
import type { HubAccess } from "../hub/access.js";
import type { HubListing } from "../hub/repository.js";
import type { WholeFile } from "../store/made.js";

/** What is converted, to what. */
export interface ConversionRequest {
  readonly hub: HubAccess;
  /** The repository that holds the checkpoint. */
  readonly listing: HubListing;
  /** How the language model is stored, such as `q4_k_m`. */
  readonly quantization: string;
  /** What the store calls the model. */
  readonly key: string;
  readonly allowedOrigins?: readonly string[];
}

/** Bytes of a checkpoint that were read to plan its conversion. */
export interface KnownRange {
  readonly place: Place;
  readonly file: string;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Where a file of a checkpoint lies: in its repository, or in that of its vision tower. */
export type Place = "checkpoint" | "tower";

/** All that planning has read: with it, another worker plans the same without a request. */
export interface Known {
  readonly tower: HubListing | undefined;
  readonly ranges: readonly KnownRange[];
}

/** A file that conversion makes. */
export interface PlannedFile {
  /** Its path beside the manifest. */
  readonly path: string;
  readonly bytes: number;
  /** Bytes that are fetched for it. */
  readonly fetchBytes: number;
  /** Those of them that need not be fetched any more, since what they became is here. */
  readonly fetchedBytes: number;
}

/** How a checkpoint will be converted. */
export interface ConversionPlan {
  readonly files: readonly PlannedFile[];
  /** The manifest, but for the SHA-256 of the files. */
  readonly manifest: string;
  readonly license: string | undefined;
  /** How fast the description of the checkpoint came, where enough of it did to tell. */
  readonly bytesPerSecond: number | undefined;
  readonly known: Known;
}

/** Every method of a worker that converts, by name. The calls of one worker wait for each other. */
export interface ConversionCalls {
  /** Reads what describes the checkpoint, and plans; no weights are fetched. */
  plan: { params: ConversionRequest; event: never; result: ConversionPlan };
  /** Plans the same again of what another worker has read. */
  join: { params: { request: ConversionRequest; known: Known }; event: never; result: void };
  /** Notes in the store, before they are made, which files belong to the model. */
  begin: { params: Record<never, never>; event: never; result: void };
  /** Makes a file, or what is missing of it; events are the bytes that were fetched for it. */
  make: { params: { index: number }; event: number; result: WholeFile };
  /** Makes a model of the files: from then on it loads from the store. */
  finish: { params: { files: readonly WholeFile[] }; event: never; result: void };
}
