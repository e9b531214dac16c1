/** Conversations. */
import type { AnswerSink, StreamedAnswer } from "./answer.js";
import type { Handle, PastTurn } from "./calls.js";
import { asyncDispose, dispose } from "./dispose.js";
import { UniviError } from "./error.js";
import { type ChatMessage, type PreparedTurn, prepareTurns } from "./messages.js";
import { type Checks, copyOptions, oneOf, string } from "./options.js";
import { type Part, prepareParts, VISUAL, type VisualOptions } from "./parts.js";
import { answerTo, type AskOptions, type Question } from "./question.js";
import type { Client } from "./rpc.js";
import { TokenMaps } from "./token-maps.js";
import type { ContextUsage, SessionOptions, TokenMap, Usage } from "./types.js";
import { PartUploader } from "./uploader.js";

/** How a conversation begins. */
export interface ConversationOptions extends SessionOptions {
  /**
   * Earlier messages, such as those of a conversation that was kept when the page was closed:
   * `user` and `assistant` in turn. Their pictures and clips are encoded with the first question.
   */
  readonly messages?: readonly ChatMessage[];
}

/** The checks of {@link SessionOptions}. */
export const SESSION: Checks<SessionOptions> = {
  system: string,
  template: string,
  overflow: oneOf("refuse", "drop-oldest"),
};

/** What {@link Session.append} leaves behind. */
export interface AppendedParts {
  /** Notes about what of the parts was left out, as {@link StreamedAnswer.warnings}. */
  readonly warnings: readonly string[];
  /** Returns the token map of each visual part, in order; read back with the first call. */
  tokenMaps(): Promise<readonly TokenMap[]>;
}

/**
 * A conversation: several turns, with images and clips at any of them. Made by {@link
 * Univi.session}.
 *
 * @example
 * ```ts
 * const session = univi.session({ system: "Answer in one sentence." });
 * console.log(await session.ask([photo, "What is on the table?"]).text());
 * console.log(await session.ask("What colour is it?").text()); // The photo is not read again.
 * session.dispose();
 * ```
 */
export class Session implements Disposable, AsyncDisposable {
  readonly #client: Client;
  readonly #options: SessionOptions;
  /** Turns that the other end has not read yet. */
  #turns: readonly PreparedTurn[];
  #opened: Promise<Handle> | undefined;
  #usage: ContextUsage;

  /** @internal `opened` where it is there at the other end already. */
  constructor(
    client: Client,
    options: ConversationOptions,
    usage: ContextUsage,
    opened?: Promise<Handle>,
  ) {
    const { messages = [], ...session } = copyOptions<
      SessionOptions & { messages?: readonly PreparedTurn[] }
    >(options, { ...SESSION, messages: prepareTurns }, "session");
    this.#client = client;
    this.#options = session;
    this.#turns = messages;
    this.#usage = usage;
    this.#opened = opened;
  }

  /**
   * Returns how much of the context the conversation takes, as of its last turn: what comes next
   * has to find room in the rest.
   */
  get contextUsage(): ContextUsage {
    return this.#usage;
  }

  /** Puts the next question. Nothing starts until the answer is read. */
  ask(parts: string | Iterable<Part>, options: AskOptions = {}): StreamedAnswer {
    return answerTo(this.#client, parts, options, (question, sink) => this.answer(question, sink));
  }

  /** @internal */
  async answer({ parts, visual, sampling }: Question, sink: AnswerSink): Promise<Usage> {
    const options = { ...visual, signal: sink.signal };
    const uploader = new PartUploader(this.#client, options, sink);
    try {
      const sent = await uploader.upload(parts);
      sink.encoded();
      const visuals = sent.filter((part) => typeof part !== "string").length;
      visual.onProgress?.({ phase: "answer", loaded: visuals, total: visuals });
      const session = await this.#open(options);
      const { usage, context } = await this.#client.call(
        "answer",
        { session, parts: sent, options: sampling },
        { signal: sink.signal, onEvent: ({ text }) => sink.piece(text) },
      );
      this.#usage = context;
      return usage;
    } finally {
      uploader.free();
    }
  }

  /**
   * Begins the next question with pictures, clips and words, which are encoded and read now, so
   * that {@link Session.ask} answers the sooner. Where it is aborted while it is being read,
   * nothing was appended.
   */
  async append(
    parts: string | Iterable<Part>,
    options: VisualOptions = {},
  ): Promise<AppendedParts> {
    const prepared = prepareParts(parts);
    const visual = copyOptions<VisualOptions>(options, VISUAL, "append");
    const [tokenMaps, warnings] = [new TokenMaps(this.#client), [] as string[]];
    const warn = (text: string) => warnings.push(text);
    const uploader = new PartUploader(this.#client, visual, { tokenMaps, warn });
    try {
      const sent = await uploader.upload(prepared);
      const session = await this.#open(visual);
      this.#usage = await this.#client.call(
        "append",
        { session, parts: sent },
        { signal: visual.signal },
      );
      return { warnings, tokenMaps: () => tokenMaps.fetch() };
    } catch (error) {
      tokenMaps.free();
      throw error;
    } finally {
      uploader.free();
    }
  }

  /** Returns a copy of the conversation, to go on differently; what was read is not read again. */
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
      this.#turns = this.#turns.slice(0, turns);
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

  /** As {@link Session.dispose}. */
  [dispose](): void {
    this.dispose();
  }

  /** Frees what the conversation holds, and waits until the device has it back. */
  async [asyncDispose](): Promise<void> {
    const session = await this.#opened?.catch(() => undefined);
    this.dispose();
    if (session !== undefined) await this.#client.free([session]);
  }

  /** Opens it at the other end, the first time that this succeeds. */
  #open(visual: VisualOptions): Promise<Handle> {
    // Whoever stops waiting for it does not stop it for others.
    if (this.#opened)
      return this.#opened.catch((error) => {
        if (visual.signal?.aborted || error?.name !== "AbortError") throw error;
        return this.#open(visual);
      });
    const opened = this.#begin(visual);
    this.#opened = opened;
    opened.catch(() => {
      if (this.#opened === opened) this.#opened = undefined;
    });
    return opened;
  }

  async #begin(visual: VisualOptions): Promise<Handle> {
    const [session, options] = [this.#client.newHandle(), this.#options];
    if (this.#turns.length === 0) {
      await this.#client.call("openSession", { session, options });
      return session;
    }
    const uploader = new PartUploader(this.#client, visual);
    try {
      const turns: PastTurn[] = [];
      for (const { parts, answer } of this.#turns)
        turns.push({ parts: await uploader.upload(parts), answer });
      await this.#client.call("restart", { session, options, turns });
      return session;
    } finally {
      uploader.free();
    }
  }
}
