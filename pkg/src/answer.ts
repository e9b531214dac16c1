/** An answer as it is generated. */
import { asyncDispose } from "./dispose.js";
import type { TokenMaps } from "./token-maps.js";
import type { TokenMap, Usage } from "./types.js";

/** What `run` of a {@link StreamedAnswer} writes to. */
export interface AnswerSink {
  /** Aborted when the answer is to stop. */
  readonly signal: AbortSignal;
  /** Where the token maps of the visual parts go. */
  readonly tokenMaps: TokenMaps;
  /** Adds a note about something of the question that was left out. */
  warn(text: string): void;
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
 *
 * @example
 * ```ts
 * const answer = univi.ask([photo, "What is on the table?"]);
 * for await (const piece of answer) out.append(piece);
 * console.log((await answer.text()).length, answer.usage?.completionTokens);
 * ```
 */
export class StreamedAnswer implements AsyncIterable<string>, AsyncDisposable {
  /** Tokens and times of the answer, once it has ended by itself. */
  usage: Usage | undefined;
  /**
   * What of the question was left out, such as all frames but the first one of an animation that
   * was given as an image; complete before the first piece.
   */
  readonly warnings: readonly string[] = [];
  readonly #run: (sink: AnswerSink) => Promise<Usage>;
  readonly #tokenMaps: TokenMaps;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #pieces: string[] = [];
  #state: "idle" | "encoding" | "answering" | "ended" = "idle";
  #wasEncoded = false;
  #failure: { readonly reason: unknown } | undefined;
  #readers = 0;
  #waiting: (() => void)[] = [];

  /** @internal */
  constructor(
    signal: AbortSignal | undefined,
    tokenMaps: TokenMaps,
    run: (sink: AnswerSink) => Promise<Usage>,
  ) {
    this.#signal = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
    this.#tokenMaps = tokenMaps;
    this.#run = run;
  }

  /** Returns a reader of all pieces, from the first one on. */
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
   * Returns the token map of each visual part, in order, as soon as all of them are encoded. They
   * are read back from the device with the first call, which takes a few milliseconds; answers
   * whose maps nobody asks for don't pay for them.
   *
   * @throws What keeps a part from being encoded.
   */
  async tokenMaps(): Promise<readonly TokenMap[]> {
    this.#start();
    while (this.#state === "encoding") await this.#change();
    if (this.#failure && !this.#wasEncoded) throw this.#failure.reason;
    return this.#tokenMaps.fetch();
  }

  /** Stops the answer where it is not over, and frees its token maps. */
  async [asyncDispose](): Promise<void> {
    this.#stop.abort();
    while (this.#state === "encoding" || this.#state === "answering") await this.#change();
    this.#state = "ended";
    this.#tokenMaps.free();
  }

  #start(): void {
    if (this.#state !== "idle") return;
    this.#state = "encoding";
    const sink: AnswerSink = {
      signal: this.#signal,
      tokenMaps: this.#tokenMaps,
      warn: (text) => (this.warnings as string[]).push(text),
      encoded: () => {
        this.#wasEncoded = true;
        this.#advance("answering");
      },
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
