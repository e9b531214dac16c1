/** Conversations and their answers. */
import { UniviError } from "./error.js";
import { type AskProgress, encode, type LookOptions, type Part } from "./parts.js";
import type {
  Client,
  ContextUsage,
  Handle,
  PastTurn,
  SamplingOptions,
  Seen,
  SentPart,
  SentSampling,
  SessionOptions,
  Usage,
} from "./protocol.js";

/** How one question is answered. */
export interface AskOptions extends SamplingOptions, Pick<LookOptions, "visualTokens"> {
  /** Stops the answer. What was said so far stays part of the conversation. */
  readonly signal?: AbortSignal;
  /** Hears how far decoding and encoding of the visual parts have come. */
  readonly onProgress?: (progress: AskProgress) => void;
}

/** What of that is about looking. */
export type LookingOptions = Pick<AskOptions, "signal" | "onProgress" | "visualTokens">;

/** A question that was answered before. */
export interface PastQuestion {
  readonly parts: string | readonly Part[];
  readonly answer: string;
}

/** How a conversation begins. */
export interface ConversationOptions extends SessionOptions {
  /**
   * What was said before, such as a conversation that was kept when the page was closed. Its
   * pictures and clips are looked at with the first question.
   */
  readonly history?: readonly PastQuestion[];
}

/**
 * A conversation: several turns, with images and clips at any of them. Made by {@link
 * Univi.session}.
 */
export class Session {
  readonly #client: Client;
  #options: ConversationOptions;
  #opened: Promise<Handle> | undefined;
  #usage: ContextUsage;

  /** @internal `opened` where it is there at the other end already. */
  constructor(
    client: Client,
    options: ConversationOptions,
    usage: ContextUsage,
    opened?: Promise<Handle>,
  ) {
    this.#client = client;
    this.#options = options;
    this.#usage = usage;
    this.#opened = opened;
  }

  /**
   * How much of the context the conversation takes, as of its last turn: what comes next has to
   * find room in the rest.
   */
  get contextUsage(): ContextUsage {
    return this.#usage;
  }

  /** Puts the next question. Nothing happens until the answer is read. */
  ask(parts: string | readonly Part[], options: AskOptions = {}): Answer {
    return new Answer((answer) => this.answerTo(answer, parts, options));
  }

  /** @internal */
  answerTo(
    answer: Answer,
    parts: string | readonly Part[],
    options: AskOptions,
  ): AsyncGenerator<string, void> {
    return answerTo(this.#client, answer, parts, options, async (sent, signal, onPiece) => {
      const session = await this.#open({ ...options, signal });
      const params = { session, parts: sent, options: samplingOf(options) };
      const { usage, context } = await this.#client.call("answer", params, {
        signal,
        onEvent: onPiece,
      });
      this.#usage = context;
      return usage;
    });
  }

  /**
   * Begins the next question with pictures, clips and words, which are encoded and read now, so
   * that {@link Session.ask} answers the sooner. Resolves with what the model saw of each visual
   * part. Where it is aborted while it is being read, nothing was appended.
   */
  async append(parts: readonly Part[], options: LookingOptions = {}): Promise<Seen[]> {
    const seen: Seen[] = [];
    const sending = new Sending(this.#client, options);
    try {
      const sent = await sending.send(parts, seen);
      const session = await this.#open(options);
      this.#usage = await this.#client.call(
        "append",
        { session, parts: sent },
        { signal: options.signal },
      );
      return seen;
    } finally {
      sending.free();
    }
  }

  /** The same conversation once more, to go on differently; what was read is not read again. */
  async clone(): Promise<Session> {
    const from = await this.#open({});
    const session = this.#client.newHandle();
    await this.#client.call("fork", { session, from });
    return new Session(this.#client, this.#options, this.#usage, Promise.resolve(session));
  }

  /**
   * Forgets everything but the first `turns` questions and their answers, to put the next one anew:
   * what is kept is not read again. Turns that were dropped to make room no longer count.
   */
  async rewind(turns: number): Promise<void> {
    if (!(Number.isInteger(turns) && turns >= 0))
      throw new UniviError("bad-request", `turns is ${turns}, expected a whole number from 0 on`);
    if (!this.#opened) {
      this.#options = { ...this.#options, history: (this.#options.history ?? []).slice(0, turns) };
      return;
    }
    this.#usage = await this.#client.call("rewind", { session: await this.#opened, keep: turns });
  }

  /** Frees what the conversation holds on the device. May be called again. */
  dispose(): void {
    this.#opened?.then((session) => free(this.#client, [session])).catch(() => {}); // An unopened one holds nothing.
    this.#opened = Promise.reject(
      new UniviError("bad-request", "this conversation was disposed of; begin a new one"),
    );
    this.#opened.catch(() => {});
  }

  /** Opens it at the other end, the first time that this succeeds. */
  #open(asking: LookingOptions): Promise<Handle> {
    if (this.#opened) return this.#opened;
    const opened = this.#begin(asking);
    this.#opened = opened;
    opened.catch(() => {
      if (this.#opened === opened) this.#opened = undefined;
    });
    return opened;
  }

  async #begin(asking: LookingOptions): Promise<Handle> {
    const session = this.#client.newHandle();
    const { history = [], ...options } = this.#options;
    if (history.length === 0) {
      await this.#client.call("openSession", { session, options });
      return session;
    }
    const sending = new Sending(this.#client, asking);
    try {
      const turns: PastTurn[] = [];
      for (const { parts, answer } of history)
        turns.push({
          parts: await sending.send(typeof parts === "string" ? [parts] : parts, []),
          answer,
        });
      await this.#client.call("restart", { session, options, turns });
      return session;
    } finally {
      sending.free();
    }
  }
}

/**
 * An answer, piece by piece, for one reader.
 *
 * Leaving the loop early stops the model; so does the question's `signal`, whose reason is then
 * thrown.
 */
export class Answer implements AsyncIterable<string> {
  /**
   * What the model saw of each visual part, in order; filled as they are encoded, complete before
   * the first piece.
   */
  readonly seen: Seen[] = [];
  /** What the answer cost, once it has ended. */
  usage: Usage | undefined;
  readonly #pieces: AsyncGenerator<string, void>;

  /** @internal */
  constructor(pieces: (answer: Answer) => AsyncGenerator<string, void>) {
    this.#pieces = pieces(this);
  }

  [Symbol.asyncIterator](): AsyncGenerator<string, void> {
    return this.#pieces;
  }

  /** The whole answer. */
  async text(): Promise<string> {
    let text = "";
    for await (const piece of this) text += piece;
    return text;
  }
}

/** @internal Sends `parts` and streams what `ask` makes of them. */
export async function* answerTo(
  client: Client,
  answer: Answer,
  parts: string | readonly (Part | { readonly visual: Handle })[],
  options: AskOptions,
  ask: (
    sent: readonly SentPart[],
    signal: AbortSignal,
    onPiece: (piece: string) => void,
  ) => Promise<Usage>,
): AsyncGenerator<string, void> {
  const left = new AbortController(); // The reader has left, or something failed.
  const signal = options.signal ? AbortSignal.any([options.signal, left.signal]) : left.signal;
  const sending = new Sending(client, { ...options, signal });
  try {
    const sent = await sending.send(typeof parts === "string" ? [parts] : parts, answer.seen);
    const visuals = sent.filter((part) => typeof part !== "string").length;
    options.onProgress?.({ phase: "answer", loaded: visuals, total: visuals });

    const arrived: string[] = [];
    let wake = () => {};
    let ended = false;
    const usage = ask(sent, signal, (piece) => {
      arrived.push(piece);
      wake();
    }).finally(() => {
      ended = true;
      wake();
    });
    usage.catch(() => {}); // Awaited below, unless the reader leaves.
    for (;;) {
      while (arrived.length > 0) yield arrived.shift()!;
      if (ended) break;
      await new Promise<void>((resolve) => (wake = resolve));
    }
    answer.usage = await usage;
  } finally {
    left.abort();
    sending.free();
  }
}

/** Parts on their way to the other end. */
export class Sending {
  readonly #client: Client;
  readonly #options: LookingOptions;
  readonly #visuals: Handle[] = [];

  constructor(client: Client, options: LookingOptions) {
    this.#client = client;
    this.#options = options;
  }

  /**
   * Encodes what is visual, in order; `seen` gets what the model saw. What is encoded already only
   * takes its place.
   */
  async send(
    parts: readonly (Part | { readonly visual: Handle })[],
    seen: Seen[],
  ): Promise<SentPart[]> {
    const { onProgress } = this.#options;
    const total = parts.filter((part) => typeof part !== "string").length;
    const sent: SentPart[] = [];
    for (const part of parts) {
      if (typeof part === "string" || "visual" in part) {
        sent.push(part);
        continue;
      }
      const visual = this.#client.newHandle();
      this.#visuals.push(visual);
      const onFrame = (loaded: number, frames: number) =>
        onProgress?.({ phase: "frames", loaded, total: frames });
      const onEncode = () => onProgress?.({ phase: "encode", loaded: seen.length, total });
      seen.push(await encode(this.#client, visual, part, this.#options, onFrame, onEncode));
      sent.push({ visual });
    }
    return sent;
  }

  /** What was encoded is not needed here any more; conversations keep what they were told. */
  free(): void {
    free(this.#client, this.#visuals);
  }
}

/** What of `options` is about choosing words. */
export function samplingOf(options: AskOptions): SentSampling {
  const {
    signal: _signal,
    onProgress: _onProgress,
    visualTokens: _visualTokens,
    jsonSchema,
    ...sampling
  } = options;
  if (jsonSchema === undefined) return sampling;
  try {
    return { ...sampling, jsonSchema: String(JSON.stringify(jsonSchema)) };
  } catch (cause) {
    throw new UniviError(
      "bad-request",
      "jsonSchema can't be written as JSON; it must be plain data, without cycles and not too deep",
      { cause },
    );
  }
}

/** Frees what lives at the other end. */
export function free(client: Client, handles: readonly Handle[]): void {
  if (handles.length > 0) client.call("free", { handles: [...handles] }).catch(() => {}); // A broken client has freed everything.
}
