/** Brings the parts of a question to the model. */
import type { Handle, SentPart } from "./calls.js";
import { sentImage } from "./image.js";
import { openPart } from "./media.js";
import type { PreparedPart, VisualOptions } from "./parts.js";
import type { Client } from "./rpc.js";
import type { TokenMaps } from "./token-maps.js";

/** What an upload leaves behind beside what was encoded. */
export interface UploadSink {
  readonly tokenMaps: TokenMaps;
  warn(text: string): void;
}

/** Encodes parts, and owns what was encoded until it is freed. */
export class PartUploader {
  readonly #client: Client;
  readonly #options: VisualOptions;
  readonly #sink: UploadSink | undefined;
  readonly #visuals: Handle[] = [];

  /** Without a `sink` there are no token maps, and warnings go nowhere. */
  constructor(client: Client, options: VisualOptions, sink?: UploadSink) {
    this.#client = client;
    this.#options = options;
    this.#sink = sink;
  }

  /** Encodes the visual parts, in order. */
  async upload(parts: readonly PreparedPart[]): Promise<SentPart[]> {
    const { onProgress } = this.#options;
    const visuals = parts.filter(({ kind }) => kind !== "text" && kind !== "encoded");
    const sent: SentPart[] = [];
    for (const part of parts) {
      if (part.kind === "text") sent.push(part.text);
      else if (part.kind === "encoded") sent.push({ visual: part.visual });
      else {
        const [loaded, total] = [visuals.indexOf(part), visuals.length];
        const onEncode = () => onProgress?.({ phase: "encode", loaded, total });
        sent.push({ visual: await this.#encode(part, onEncode) });
      }
    }
    return sent;
  }

  /** Frees what was encoded; sessions keep what they have read. May be called again. */
  free(): void {
    this.#client.free(this.#visuals.splice(0));
  }

  async #encode(
    part: Exclude<PreparedPart, { kind: "text" | "encoded" }>,
    onEncode: () => void,
  ): Promise<Handle> {
    const client = this.#client;
    const { signal, visualTokens, onProgress } = this.#options;
    const [visual, tokenMap] = [client.newHandle(), client.newHandle()];
    this.#visuals.push(visual);
    const params = {
      visual,
      ...(this.#sink ? { tokenMap } : {}),
      ...(visualTokens === undefined ? {} : { visualTokens }),
    };
    try {
      const opened = await openPart(client, part, signal);
      if (opened.kind === "clip") {
        const onFrame = (loaded: number, total: number) =>
          onProgress?.({ phase: "frames", loaded, total });
        const { pushFrames } = await import("./clip.js"); // Pages of pictures do without.
        await pushFrames(client, visual, opened.source, opened.choice, signal, onFrame);
        onEncode();
        await client.call("encodeClip", params, { signal });
      } else {
        onEncode();
        const image = await sentImage(opened.source, signal, (text) => this.#sink?.warn(text));
        await client.call(
          "encodeImage",
          { ...params, image },
          { signal, transfer: image.kind === "bitmap" ? [image.bitmap] : [] },
        );
      }
    } catch (error) {
      client.free([tokenMap]); // It may come to be yet, where the call was aborted.
      throw error;
    }
    this.#sink?.tokenMaps.add(tokenMap);
    return visual;
  }
}
