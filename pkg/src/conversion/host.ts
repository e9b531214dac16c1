/** Carries out the calls of a conversion: the end of the channel that fetches, converts, writes. */
import type { bindings } from "../../wasm-convert/univi_web_convert.js";
import { shortAddress } from "../address.js";
import { downloadRange, fetchAll } from "../download.js";
import { codeOf, UniviError } from "../error.js";
import { fileAddress, parseHubAddress } from "../hub/address.js";
import { verifyBlob } from "../hub/blob.js";
import { listHub } from "../hub/listing.js";
import type { HubListing } from "../hub/repository.js";
import type { Network } from "../network.js";
import type { Handlers, Host } from "../rpc.js";
import { openStore } from "../store.js";
import { storageEstimate } from "../store/cached.js";
import {
  beginModel,
  isMadeFor,
  MadeFile,
  madeSoFar,
  nameByContent,
  openForMaking,
  type WholeFile,
} from "../store/made.js";
import type { OpfsBackend } from "../store/opfs.js";
import type {
  ConversionCalls,
  ConversionPlan,
  ConversionRequest,
  Known,
  KnownRange,
  Place,
  PlannedFile,
} from "./calls.js";
import { conversion, type ConversionBindings } from "./module.js";

/** What an interruption costs of a file, beside the tensor under way. */
const CHECKPOINT_BYTES = 8 << 20;
/** Fewer bytes say nothing about how fast a network is. */
const MIN_MEASURED_BYTES = 256 << 10;
/** What stands for a SHA-256 that is not known yet. */
const UNKNOWN_SHA256 = "0".repeat(64);

/** Makes handlers that share one conversion. */
export const conversionHost: Host<ConversionCalls> = (fail) => {
  let work: Conversion | undefined;
  const planned = (): Conversion => {
    if (!work) throw new UniviError("bad-request", "no conversion was planned");
    return work;
  };
  const open = async (request: ConversionRequest) => {
    // Where nothing can be written, nothing is fetched.
    const backend = await openForMaking();
    const { bindings } = await conversion.instantiate(fail);
    return (work = new Conversion(bindings, backend, request));
  };
  const handlers: Handlers<ConversionCalls> = {
    plan: async (request, { signal }) => (await open(request)).plan(signal),
    join: async ({ request, known }) => (await open(request)).join(known),
    begin: async () => planned().begin(),
    make: async ({ index }, { signal, emit }) => planned().make(index, signal, emit),
    finish: async ({ files }) => planned().finish(files),
  };
  return handlers;
};

/** A conversion, as one worker sees it. */
class Conversion {
  readonly #backend: OpfsBackend;
  readonly #request: ConversionRequest;
  readonly #network: Network & { readonly hub: ConversionRequest["hub"] };
  readonly #planner: bindings.Planner;
  readonly #name: string;
  #tower: HubListing | undefined;
  #ranges: KnownRange[] = [];

  constructor(module: ConversionBindings, backend: OpfsBackend, request: ConversionRequest) {
    const { hub, allowedOrigins, listing, quantization } = request;
    this.#backend = backend;
    this.#request = request;
    this.#network = { module, allowedOrigins, hub };
    // As a folder that it was downloaded to would be called.
    this.#name = listing.repository.split("/").at(-1)!;
    this.#planner = new module.Planner(this.#name, quantization);
    this.#list("checkpoint", listing);
  }

  async plan(signal: AbortSignal): Promise<ConversionPlan> {
    let [bytes, ms] = [0, 0];
    for (let step = this.#planner.plan(); step.kind !== "planned"; step = this.#planner.plan()) {
      if (step.kind === "tower") {
        await this.#findTower(step.repository, signal);
        continue;
      }
      const { place, file, offset } = step;
      const asked = performance.now();
      const range = await this.#range(place, file, offset, step.bytes, signal);
      ms += performance.now() - asked;
      bytes += range.length;
      this.#add({ place, file, offset, bytes: range });
    }
    const files = await Promise.all(
      this.#planner.files().map(async ({ path, bytes, fetchBytes }, index) => {
        const made = await this.#madeSoFar(path);
        const whole = made.sha256 !== undefined;
        const fetchedBytes = whole ? fetchBytes : this.#fetchedFor(index, made.bytes);
        return { path, bytes, fetchBytes, fetchedBytes };
      }),
    );
    await this.#refuseWithoutRoom(files);
    return {
      files,
      manifest: this.#planner.manifest(files.map(() => UNKNOWN_SHA256)),
      license: this.#request.listing.license,
      bytesPerSecond: bytes < MIN_MEASURED_BYTES ? undefined : (1000 * bytes) / ms,
      known: { tower: this.#tower, ranges: this.#ranges },
    };
  }

  /** Throws where the browser says that it has no room for what is still to be made. */
  async #refuseWithoutRoom(files: readonly PlannedFile[]): Promise<void> {
    const missing = files.filter(({ fetchBytes, fetchedBytes }) => fetchedBytes < fetchBytes);
    const needed = missing.reduce((sum, { bytes }) => sum + bytes, 0);
    const estimate = await storageEstimate();
    const free = estimate ? estimate.quotaBytes - estimate.usedBytes : Infinity;
    if (needed <= free) return;
    const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;
    throw new UniviError(
      "io",
      `${this.#request.key}: the converted model takes ${gigabytes(needed)} more, and the browser ` +
        `has ${gigabytes(Math.max(free, 0))} for this page; make room on the disk, or delete models`,
    );
  }

  join({ tower, ranges }: Known): void {
    if (tower) this.#takeTower(tower);
    for (const range of ranges) this.#add(range);
    const { kind } = this.#planner.plan();
    if (kind !== "planned") throw new UniviError("internal", `the same plan lacks a ${kind}`);
  }

  async begin(): Promise<void> {
    const urls = this.#planner.files().map(({ path }) => this.#url(path));
    await beginModel(this.#backend, this.#request.key, this.#name, urls);
  }

  async make(
    index: number,
    signal: AbortSignal,
    emit: (bytes: number) => void,
  ): Promise<WholeFile> {
    const { path } = this.#planner.files()[index]!;
    const made = await this.#madeSoFar(path);
    if (made.sha256 !== undefined) return made;
    const file = await MadeFile.open(this.#backend, this.#url(path), signal);
    try {
      // Bytes that came wrong are fetched once more before they count.
      return await this.#fill(index, file, signal, emit).catch((error: unknown) => {
        if (codeOf(error) !== "bad-file") throw error;
        return this.#fill(index, file, signal, () => {});
      });
    } finally {
      await file.close();
    }
  }

  /** Writes what is missing of a file. */
  async #fill(
    index: number,
    file: MadeFile,
    signal: AbortSignal,
    emit: (bytes: number) => void,
  ): Promise<WholeFile> {
    const making = await this.#resumed(index, file);
    try {
      if (file.size === 0) await file.append(making.head());
      let checkpoint = file.size;
      for (let next = making.nextTensor(); next; next = making.nextTensor()) {
        const { place, file: from, offset, bytes } = next;
        for await (const piece of this.#stream(place, from, offset, bytes, signal)) {
          await file.append(making.push(piece));
          emit(piece.length);
        }
        await file.append(making.end());
        if (file.size - checkpoint < CHECKPOINT_BYTES) continue;
        await file.checkpoint(making.sha256());
        checkpoint = file.size;
      }
      const whole = { bytes: file.size, sha256: making.sha256() };
      await file.finish(whole.sha256);
      return whole;
    } finally {
      making.free();
    }
  }

  /** Goes on behind what an earlier visit has left of a file, where that is right. */
  async #resumed(index: number, file: MadeFile): Promise<bindings.Making> {
    const { prefix } = file;
    if (prefix) {
      const making = this.#planner.make(index);
      if (making.resume(prefix.bytes) !== undefined) {
        for await (const piece of file.readPrefix()) making.hash(piece);
        if (making.sha256() === prefix.sha256) {
          await file.resume();
          return making;
        }
      }
      making.free();
    }
    await file.restart();
    return this.#planner.make(index);
  }

  async finish(files: readonly WholeFile[]): Promise<void> {
    const { key } = this.#request;
    const planned = this.#planner.files();
    const urls = planned.map(({ path }) => this.#url(path));
    for (const [index, url] of urls.entries())
      await nameByContent(this.#backend, url, files[index]!);
    const manifest = this.#planner.manifest(files.map(({ sha256 }) => sha256));
    const store = await openStore("opfs");
    const keys = files.map(({ bytes, sha256 }, index) => ({ url: urls[index]!, bytes, sha256 }));
    const about = { name: this.#name, files: keys };
    await store.putDocument(key, new TextEncoder().encode(manifest), about);
    if (!(await store.getDocument(key)))
      throw new UniviError("io", `${key}: ${store.reason ?? "its manifest can't be kept"}`);
  }

  async #findTower(name: string, signal: AbortSignal): Promise<void> {
    const { repository, revision } = parseHubAddress(`hf:${name}`);
    this.#takeTower(await listHub(this.#network, repository, revision, signal));
  }

  #takeTower(listing: HubListing): void {
    this.#tower = listing;
    this.#list("tower", listing);
  }

  #list(place: Place, listing: HubListing): void {
    for (const { name, bytes } of listing.files) this.#planner.addFile(place, name, bytes);
  }

  #add(range: KnownRange): void {
    this.#ranges.push(range);
    this.#planner.addRange(range.place, range.file, range.offset, range.bytes);
  }

  /** How much of a file is here: of this visit, of an earlier one, or of the model as it was. */
  async #madeSoFar(path: string) {
    const url = this.#url(path);
    const made = await madeSoFar(this.#backend, url);
    if (made.sha256 !== undefined) return made;
    const before = (await this.#manifestBefore()).get(path);
    return before && (await isMadeFor(this.#backend, url, before)) ? before : made;
  }

  /** The files that the manifest names that is here, of which the browser may have lost some. */
  async #manifestBefore(): Promise<Map<string, WholeFile>> {
    const store = await openStore("opfs");
    const document = await store.getDocument(this.#request.key);
    if (!document) return new Map();
    const { files } = JSON.parse(new TextDecoder().decode(document)) as {
      files: readonly (WholeFile & { readonly path: string })[];
    };
    return new Map(files.map(({ path, bytes, sha256 }) => [path, { bytes, sha256 }]));
  }

  #fetchedFor(index: number, bytes: number): number {
    if (bytes === 0) return 0;
    const making = this.#planner.make(index);
    const fetched = making.resume(bytes) ?? 0;
    making.free();
    return fetched;
  }

  /** What the store calls a file that is made: another commit or quantization makes another one. */
  #url(path: string): string {
    const { listing, quantization } = this.#request;
    return `hf:${listing.repository}@${listing.commit}/${path}?quantization=${quantization}`;
  }

  async #range(
    place: Place,
    name: string,
    offset: number,
    bytes: number,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const { url, fileBytes, blob } = this.#file(place, name);
    // A server need not know ranges of small files that it makes up itself.
    if (bytes === fileBytes) {
      const whole = await fetchAll(this.#network, url, bytes, signal);
      if (blob !== undefined) await verifyBlob(whole, blob, shortAddress(url));
      return whole;
    }
    const all = new Uint8Array(bytes);
    let filled = 0;
    for await (const piece of this.#stream(place, name, offset, bytes, signal)) {
      all.set(piece, filled);
      filled += piece.length;
    }
    return all;
  }

  #stream(
    place: Place,
    name: string,
    start: number,
    bytes: number,
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array> {
    const { url, fileBytes } = this.#file(place, name);
    const range = { start, end: start + bytes, fileBytes };
    return downloadRange(this.#network, url, range, signal);
  }

  #file(place: Place, name: string) {
    const { repository, commit, files } = place === "tower" ? this.#tower! : this.#request.listing;
    const url = fileAddress(this.#request.hub, repository, commit, name);
    const { bytes: fileBytes, blob } = files.find((file) => file.name === name)!;
    return { url, fileBytes, blob };
  }
}
