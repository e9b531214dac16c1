/** Brings the parts of a question to the model. */
import type { Handle, SentPart } from "./calls.js";
import { encode, type Part, type VisualOptions } from "./parts.js";
import type { Client } from "./rpc.js";
import type { TokenMap } from "./types.js";

/** A part as users give it, or one that is encoded already. */
export type UploadPart = Part | { readonly visual: Handle };

/** Encodes parts, and owns what was encoded until it is freed. */
export class PartUploader {
  readonly #client: Client;
  readonly #options: VisualOptions;
  readonly #visuals: Handle[] = [];

  constructor(client: Client, options: VisualOptions) {
    this.#client = client;
    this.#options = options;
  }

  /** Encodes the visual parts in order; `onTokenMap` gets the token map of each. */
  async upload(
    parts: readonly UploadPart[],
    onTokenMap: (tokenMap: TokenMap) => void = () => {},
  ): Promise<SentPart[]> {
    const { onProgress } = this.#options;
    const isVisual = (part: UploadPart) => typeof part !== "string" && !("visual" in part);
    const total = parts.filter(isVisual).length;
    const sent: SentPart[] = [];
    let encoded = 0;
    for (const part of parts) {
      if (typeof part === "string" || "visual" in part) {
        sent.push(part);
        continue;
      }
      const visual = this.#client.newHandle();
      this.#visuals.push(visual);
      const onFrame = (loaded: number, frames: number) =>
        onProgress?.({ phase: "frames", loaded, total: frames });
      const onEncode = () => onProgress?.({ phase: "encode", loaded: encoded, total });
      onTokenMap(await encode(this.#client, visual, part, this.#options, onFrame, onEncode));
      encoded += 1;
      sent.push({ visual });
    }
    return sent;
  }

  /** Frees what was encoded; sessions keep what they have read. May be called again. */
  free(): void {
    this.#client.free(this.#visuals.splice(0));
  }
}
