/** Conversations. */
import { type AnswerSink, StreamedAnswer } from "./answer.js";
import type { Handle, PastTurn } from "./calls.js";
import { UniviError } from "./error.js";
import type { Part, VisualOptions } from "./parts.js";
import type { Client } from "./rpc.js";
import { samplingOf } from "./sampling.js";
import type { ContextUsage, SamplingOptions, SessionOptions, TokenMap, Usage } from "./types.js";
import { PartUploader } from "./uploader.js";

/** How one question is answered. */
export interface AskOptions extends SamplingOptions, VisualOptions {}

/** A message of a conversation: a question, with its pictures and clips, or an answer. */
export interface ChatMessage {
  readonly role: "user" | "assistant";
  readonly content: string | readonly Part[];
}

/** How a conversation begins. */
export interface ConversationOptions extends SessionOptions {
  /**
   * Earlier messages, such as those of a conversation that was kept when the page was closed:
   * `user` and `assistant` in turn. Their pictures and clips are encoded with the first question.
   */
  readonly messages?: readonly ChatMessage[];
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

  /** Puts the next question. Nothing starts until the answer is read. */
  ask(parts: string | readonly Part[], options: AskOptions = {}): StreamedAnswer {
    return new StreamedAnswer(options.signal, (sink) => this.answer(parts, options, sink));
  }

  /** @internal */
  async answer(
    parts: string | readonly Part[],
    options: AskOptions,
    sink: AnswerSink,
  ): Promise<Usage> {
    const visual = { ...options, signal: sink.signal };
    const uploader = new PartUploader(this.#client, visual);
    try {
      const sent = await uploader.upload(listOf(parts), sink.tokenMap);
      sink.encoded();
      const visuals = sent.filter((part) => typeof part !== "string").length;
      options.onProgress?.({ phase: "answer", loaded: visuals, total: visuals });
      const session = await this.#open(visual);
      const { usage, context } = await this.#client.call(
        "answer",
        { session, parts: sent, options: samplingOf(options) },
        { signal: sink.signal, onEvent: sink.piece },
      );
      this.#usage = context;
      return usage;
    } finally {
      uploader.free();
    }
  }

  /**
   * Begins the next question with pictures, clips and words, which are encoded and read now, so
   * that {@link Session.ask} answers the sooner. Resolves with the token map of each visual part.
   * Where it is aborted while it is being read, nothing was appended.
   */
  async append(parts: readonly Part[], options: VisualOptions = {}): Promise<TokenMap[]> {
    const tokenMaps: TokenMap[] = [];
    const uploader = new PartUploader(this.#client, options);
    try {
      const sent = await uploader.upload(parts, (tokenMap) => tokenMaps.push(tokenMap));
      const session = await this.#open(options);
      this.#usage = await this.#client.call(
        "append",
        { session, parts: sent },
        { signal: options.signal },
      );
      return tokenMaps;
    } finally {
      uploader.free();
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
      const messages = (this.#options.messages ?? []).slice(0, 2 * turns);
      this.#options = { ...this.#options, messages };
      return;
    }
    this.#usage = await this.#client.call("rewind", { session: await this.#opened, keep: turns });
  }

  /** Frees what the conversation holds on the device. May be called again. */
  dispose(): void {
    this.#opened?.then((session) => this.#client.free([session])).catch(() => {}); // An unopened one holds nothing.
    this.#opened = Promise.reject(
      new UniviError("bad-request", "this conversation was disposed of; begin a new one"),
    );
    this.#opened.catch(() => {});
  }

  /** Opens it at the other end, the first time that this succeeds. */
  #open(asking: VisualOptions): Promise<Handle> {
    if (this.#opened) return this.#opened;
    const opened = this.#begin(asking);
    this.#opened = opened;
    opened.catch(() => {
      if (this.#opened === opened) this.#opened = undefined;
    });
    return opened;
  }

  async #begin(asking: VisualOptions): Promise<Handle> {
    const session = this.#client.newHandle();
    const { messages = [], ...options } = this.#options;
    if (messages.length === 0) {
      await this.#client.call("openSession", { session, options });
      return session;
    }
    const uploader = new PartUploader(this.#client, asking);
    try {
      const turns: PastTurn[] = [];
      for (const { parts, answer } of turnsOf(messages))
        turns.push({ parts: await uploader.upload(parts), answer });
      await this.#client.call("restart", { session, options, turns });
      return session;
    } finally {
      uploader.free();
    }
  }
}

function listOf(parts: string | readonly Part[]): readonly Part[] {
  return typeof parts === "string" ? [parts] : parts;
}

/** Returns messages as turns. */
function turnsOf(
  messages: readonly ChatMessage[],
): { readonly parts: readonly Part[]; readonly answer: string }[] {
  return messages.flatMap(({ content }, i) => {
    const next = messages[i + 1];
    return i % 2 === 1 ? [] : [{ parts: listOf(content), answer: String(next?.content) }];
  });
}
