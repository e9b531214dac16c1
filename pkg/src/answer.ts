/** An answer as it is generated. */
import type { TokenMap, Usage } from "./types.js";

/** Where an answer comes from: what `run` of {@link StreamedAnswer} writes to. */
export interface AnswerSink {
  /** Aborted when the answer is to stop. */
  readonly signal: AbortSignal;
  /** Adds the token map of a visual part that was encoded. */
  tokenMap(tokenMap: TokenMap): void;
  /** Reports that all visual parts are encoded. */
  encoded(): void;
  /** Adds a piece of text. */
  piece(text: string): void;
}

/**
 * An answer, piece by piece.
 *
 * Nothing starts until the answer is read: by a loop, {@link StreamedAnswer.text} or {@link
 * StreamedAnswer.tokenMaps}. It may be read more than once, also by several readers at a time: each
 * gets all pieces from the first one on.
 *
 * The model stops when the last reader leaves its loop early; later readers get the pieces so far.
 * The question's `signal` stops it, too; its reason is then thrown to every reader.
 */
export class StreamedAnswer implements AsyncIterable<string> {
  /** What the answer cost, once it has ended by itself. */
  usage: Usage | undefined;
  readonly #run: (sink: AnswerSink) => Promise<Usage>;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #pieces: string[] = [];
  readonly #tokenMaps: TokenMap[] = [];
  #state: "idle" | "encoding" | "answering" | "ended" = "idle";
  #failure: { readonly reason: unknown } | undefined;
  #readers = 0;
  #waiting: (() => void)[] = [];

  /** @internal */
  constructor(signal: AbortSignal | undefined, run: (sink: AnswerSink) => Promise<Usage>) {
    this.#signal = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
    this.#run = run;
  }

  /** Returns a reader of all pieces, those that have come already included. */
  async *[Symbol.asyncIterator](): AsyncGenerator<string, void> {
    this.#start();
    this.#readers += 1;
    try {
      for (let read = 0; ; ) {
        while (read < this.#pieces.length) yield this.#pieces[read++]!;
        if (this.#state === "ended") break;
        await this.#change();
      }
    } finally {
      this.#readers -= 1;
      if (this.#readers === 0) this.#stop.abort();
    }
    if (this.#failure) throw this.#failure.reason;
  }

  /** Returns the whole answer. */
  async text(): Promise<string> {
    let text = "";
    for await (const piece of this) text += piece;
    return text;
  }

  /**
   * Returns the token map of each visual part, in order, once all of them are encoded.
   *
   * @throws What keeps a part from being encoded.
   */
  async tokenMaps(): Promise<readonly TokenMap[]> {
    this.#start();
    while (this.#state === "encoding") await this.#change();
    return this.#tokenMaps;
  }

  #start(): void {
    if (this.#state !== "idle") return;
    this.#state = "encoding";
    const sink: AnswerSink = {
      signal: this.#signal,
      tokenMap: (tokenMap) => this.#tokenMaps.push(tokenMap),
      encoded: () => this.#advance("answering"),
      piece: (text) => {
        this.#pieces.push(text);
        this.#advance("answering");
      },
    };
    this.#run(sink)
      .then((usage) => {
        this.usage = usage;
      })
      .catch((reason: unknown) => {
        if (!this.#stop.signal.aborted) this.#failure = { reason };
      })
      .finally(() => this.#advance("ended"));
  }

  #advance(state: "answering" | "ended"): void {
    this.#state = state;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
