/**
 * Chat completions in OpenAI's shapes, so that code that is written for a server runs on what is in
 * the page.
 */
import type { ClipSource } from "./clip.js";
import { UniviError } from "./error.js";
import { encode, type Part } from "./parts.js";
import type {
  Client,
  FrameChoice,
  Handle,
  ModelInfo,
  PastTurn,
  SamplingOptions,
  SentPart,
  SentSampling,
  Usage,
} from "./protocol.js";
import { Answer, answerTo, free, samplingOf } from "./session.js";

/** A part of a message: OpenAI's `text` and `image_url`, and ours for what has no URL. */
export type ChatContentPart =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image_url"; readonly image_url: { readonly url: string } }
  | {
      readonly type: "image";
      readonly image: Exclude<Part, string | { readonly video: ClipSource }>;
    }
  | ({ readonly type: "video"; readonly video: ClipSource } & FrameChoice);

/** A message of a conversation. */
export interface ChatMessage {
  readonly role: "system" | "developer" | "user" | "assistant";
  readonly content: string | readonly ChatContentPart[];
}

/**
 * What an answer may be: any text, any JSON object, or JSON that is valid for a schema, whether
 * `strict` or not.
 */
export type ChatResponseFormat =
  | { readonly type: "text" }
  | { readonly type: "json_object" }
  | {
      readonly type: "json_schema";
      readonly json_schema: {
        readonly name: string;
        readonly description?: string;
        readonly schema: object;
        readonly strict?: boolean | null;
      };
    };

/**
 * What is asked for. Other fields of OpenAI's are refused where leaving them out would change the
 * answer.
 */
export interface ChatCompletionRequest {
  readonly messages: readonly ChatMessage[];
  /** Not needed: there is one model. */
  readonly model?: string;
  readonly stream?: boolean;
  readonly stream_options?: { readonly include_usage?: boolean };
  readonly max_tokens?: number;
  readonly max_completion_tokens?: number;
  readonly temperature?: number;
  readonly top_p?: number;
  readonly seed?: number;
  readonly stop?: string | readonly string[] | null;
  readonly n?: number;
  readonly response_format?: ChatResponseFormat;
  readonly tools?: readonly unknown[];
  readonly logprobs?: boolean;
}

/** What an answer took: OpenAI's counts, and what only a machine of one's own can tell. */
export interface ChatUsage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: {
    readonly cached_tokens: number;
    readonly visual_tokens: number;
  };
  readonly time_to_first_token_ms: number;
  readonly prefill_tokens_per_second: number;
  readonly decode_tokens_per_second: number;
}

/** Why an answer ended. */
export type ChatFinishReason = "stop" | "length";

interface Head {
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  readonly model: string;
}

/** A whole answer. */
export interface ChatCompletion extends Head {
  readonly object: "chat.completion";
  readonly choices: readonly [
    {
      readonly index: 0;
      readonly message: { readonly role: "assistant"; readonly content: string };
      readonly finish_reason: ChatFinishReason;
      readonly logprobs: null;
    },
  ];
  readonly usage: ChatUsage;
}

/** A piece of an answer. */
export interface ChatCompletionChunk extends Head {
  readonly object: "chat.completion.chunk";
  readonly choices: readonly {
    readonly index: 0;
    readonly delta: { readonly role?: "assistant"; readonly content?: string };
    readonly finish_reason: ChatFinishReason | null;
  }[];
  readonly usage?: ChatUsage | null;
}

/** What goes with a request. */
export interface ChatRequestOptions {
  readonly signal?: AbortSignal;
}

/** A message as it was put to the model, with what its visual parts became. */
interface Told {
  readonly message: ChatMessage;
  readonly parts: readonly SentPart[];
  readonly visuals: readonly Handle[];
}

/**
 * `univi.chat.completions`. Requests are answered one after the other.
 *
 * Each brings its whole conversation along. What it has in common with the one before, message by
 * message, is neither encoded nor read again: keep appending to one list of messages, and a further
 * question costs its own words.
 */
export class Completions {
  readonly #client: Client;
  readonly #info: ModelInfo;
  readonly #session: Handle;
  #told: Told[] = [];
  #before: Promise<unknown> = Promise.resolve();
  #count = 0;

  /** @internal */
  constructor(client: Client, info: ModelInfo) {
    this.#client = client;
    this.#info = info;
    this.#session = client.newHandle();
  }

  /** Answers the last message, at once or piece by piece. */
  create(
    request: ChatCompletionRequest & { readonly stream: true },
    options?: ChatRequestOptions,
  ): Promise<AsyncIterable<ChatCompletionChunk>>;
  create(
    request: ChatCompletionRequest & { readonly stream?: false },
    options?: ChatRequestOptions,
  ): Promise<ChatCompletion>;
  create(
    request: ChatCompletionRequest,
    options?: ChatRequestOptions,
  ): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>>;
  async create(
    request: ChatCompletionRequest,
    options: ChatRequestOptions = {},
  ): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>> {
    refuseUnknown(request);
    const sampling = samplingOf(optionsOf(request));
    const head: Head = {
      id: `chatcmpl-${this.#count++}`,
      created: Math.floor(Date.now() / 1000),
      model: this.#info.name,
    };
    const answer = new Answer((answer) =>
      this.#answer(answer, request.messages, sampling, options),
    );
    if (request.stream) return chunks(head, answer, request.stream_options?.include_usage ?? false);
    const content = await answer.text();
    const usage = answer.usage!;
    const message = { role: "assistant", content } as const;
    const choice = {
      index: 0,
      message,
      finish_reason: usage.finishReason,
      logprobs: null,
    } as const;
    return { ...head, object: "chat.completion", choices: [choice], usage: usageOf(usage) };
  }

  async *#answer(
    answer: Answer,
    messages: readonly ChatMessage[],
    sampling: SentSampling,
    { signal }: ChatRequestOptions,
  ): AsyncGenerator<string, void> {
    const before = this.#before;
    let done = () => {};
    this.#before = new Promise<void>((resolve) => (done = resolve));
    try {
      await before;
      signal?.throwIfAborted();
      const { system, turns, question } = conversationOf(messages);
      const told = await this.#tell(
        [...turns.flatMap(({ user, assistant }) => [user, assistant]), question],
        answer,
        signal,
      );
      const past = turns.map(
        (_, i): PastTurn => ({
          parts: told[2 * i]!.parts,
          answer: textOf(told[2 * i + 1]!.message),
        }),
      );
      const session = this.#session;
      await this.#client.call(
        "restart",
        { session, options: system === undefined ? {} : { system }, turns: past },
        { signal },
      );
      yield* answerTo(
        this.#client,
        answer,
        told.at(-1)!.parts,
        signal ? { signal } : {},
        async (sent, signal, onPiece) => {
          return (
            await this.#client.call(
              "answer",
              { session, parts: sent, options: sampling },
              { signal, onEvent: onPiece },
            )
          ).usage;
        },
      );
    } finally {
      done();
    }
  }

  /** Encodes what is visual in messages that differ from those of the last request. */
  async #tell(
    messages: readonly ChatMessage[],
    answer: Answer,
    signal: AbortSignal | undefined,
  ): Promise<Told[]> {
    let same = 0;
    while (
      same < messages.length &&
      same < this.#told.length &&
      equal(messages[same]!, this.#told[same]!.message)
    )
      same++;
    free(
      this.#client,
      this.#told.splice(same).flatMap((told) => told.visuals),
    );
    for (const message of messages.slice(same)) {
      const [parts, visuals]: [SentPart[], Handle[]] = [[], []];
      try {
        for (const part of partsOf(message)) {
          if (typeof part === "string") {
            parts.push(part);
            continue;
          }
          const visual = this.#client.newHandle();
          visuals.push(visual);
          answer.seen.push(
            await encode(
              this.#client,
              visual,
              part,
              { signal },
              () => {},
              () => {},
            ),
          );
          parts.push({ visual });
        }
      } catch (error) {
        free(this.#client, visuals);
        throw error;
      }
      this.#told.push({ message: copyOf(message), parts, visuals });
    }
    return this.#told;
  }
}

async function* chunks(
  head: Head,
  answer: Answer,
  includeUsage: boolean,
): AsyncGenerator<ChatCompletionChunk, void> {
  const nothing = includeUsage ? { usage: null } : {};
  const chunk = (
    delta: { role?: "assistant"; content?: string },
    finish_reason: ChatFinishReason | null,
  ): ChatCompletionChunk => {
    return {
      ...head,
      object: "chat.completion.chunk",
      choices: [{ index: 0, delta, finish_reason }],
      ...nothing,
    };
  };
  yield chunk({ role: "assistant", content: "" }, null);
  for await (const content of answer) yield chunk({ content }, null);
  const usage = answer.usage!;
  yield chunk({}, usage.finishReason);
  if (includeUsage)
    yield { ...head, object: "chat.completion.chunk", choices: [], usage: usageOf(usage) };
}

interface Conversation {
  readonly system: string | undefined;
  readonly turns: readonly { readonly user: ChatMessage; readonly assistant: ChatMessage }[];
  readonly question: ChatMessage;
}

/**
 * Messages as turns: first what the system says, then user and assistant in turn, the user last.
 */
function conversationOf(messages: readonly ChatMessage[]): Conversation {
  const isSystem = ({ role }: ChatMessage) => role === "system" || role === "developer";
  const systems = messages.filter(isSystem);
  const rest = messages.slice(systems.length);
  const wrong = rest.findIndex(({ role }, i) => role !== (i % 2 === 0 ? "user" : "assistant"));
  if (wrong >= 0 || rest.length % 2 === 0) {
    const where =
      wrong >= 0
        ? `messages[${systems.length + wrong}] is of role "${rest[wrong]!.role}"`
        : "the last message is not the user's";
    throw new UniviError(
      "bad-request",
      `${where}; messages are those of the system first, then of user and assistant in turn, with the user's last`,
    );
  }
  const turns = [];
  for (let i = 0; i + 1 < rest.length; i += 2)
    turns.push({ user: rest[i]!, assistant: rest[i + 1]! });
  return {
    system: systems.length > 0 ? systems.map(textOf).join("\n") : undefined,
    turns,
    question: rest.at(-1)!,
  };
}

function partsOf({ role, content }: ChatMessage): Part[] {
  if (typeof content === "string") return [content];
  return content.map((part): Part => {
    if (role !== "user" && part.type !== "text")
      throw new UniviError(
        "bad-request",
        `a message of role "${role}" has a part of type "${part.type}"; only the user shows something`,
      );
    switch (part.type) {
      case "text":
        return part.text;
      case "image_url":
        return urlOf(part.image_url.url);
      case "image":
        return part.image;
      case "video": {
        const { type: _type, ...clip } = part;
        return clip;
      }
      default:
        throw new UniviError(
          "bad-request",
          `there are no parts of type "${(part as { type: string }).type}"; there are text, image_url, image and video`,
        );
    }
  });
}

function urlOf(url: string): URL {
  try {
    return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (cause) {
    throw new UniviError("bad-request", `image_url: "${url}" is no URL`, { cause });
  }
}

function textOf(message: ChatMessage): string {
  return partsOf(message)
    .filter((part) => typeof part === "string")
    .join("\n");
}

/** As it is now: callers may go on writing into their own. */
function copyOf({ role, content }: ChatMessage): ChatMessage {
  const copy = (part: ChatContentPart): ChatContentPart =>
    part.type === "image_url" ? { ...part, image_url: { ...part.image_url } } : { ...part };
  return { role, content: typeof content === "string" ? content : content.map(copy) };
}

/** Whether two messages say and show the same. */
function equal(a: ChatMessage, b: ChatMessage): boolean {
  if (a.role !== b.role) return false;
  if (typeof a.content === "string" || typeof b.content === "string")
    return a.content === b.content;
  const other = b.content;
  return (
    a.content.length === other.length && a.content.every((part, i) => equalParts(part, other[i]!))
  );
}

function equalParts(a: ChatContentPart, b: ChatContentPart): boolean {
  const plain = (part: ChatContentPart): Record<string, unknown> =>
    part.type === "image_url" ? { type: part.type, url: part.image_url.url } : { ...part };
  const [x, y] = [plain(a), plain(b)];
  return (
    Object.keys(x).length === Object.keys(y).length &&
    Object.keys(x).every((key) => x[key] === y[key])
  );
}

function optionsOf(request: ChatCompletionRequest): SamplingOptions {
  const { temperature, top_p: topP, seed, stop } = request;
  const maxTokens = request.max_completion_tokens ?? request.max_tokens;
  const jsonSchema = schemaOf(request.response_format);
  return {
    ...(maxTokens === undefined ? {} : { maxTokens }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(topP === undefined ? {} : { topP }),
    ...(seed === undefined ? {} : { seed }),
    ...(stop == null ? {} : { stop: typeof stop === "string" ? [stop] : stop }),
    ...(jsonSchema === undefined ? {} : { jsonSchema }),
  };
}

function schemaOf(format: ChatResponseFormat = { type: "text" }): object | undefined {
  switch (format.type) {
    case "text":
      return undefined;
    case "json_object":
      return { type: "object" };
    case "json_schema": {
      const { schema } = format.json_schema ?? {};
      if (typeof schema !== "object" || schema === null)
        throw new UniviError(
          "bad-request",
          "response_format: json_schema.schema is no object; put the JSON schema there",
        );
      return schema;
    }
    default:
      throw new UniviError(
        "bad-request",
        `response_format of type "${(format as { type: string }).type}" is not supported; there are text, json_object and json_schema`,
      );
  }
}

function refuseUnknown({ n, tools, logprobs }: ChatCompletionRequest): void {
  const refuse = (what: string) => {
    throw new UniviError("bad-request", `${what} is not supported; leave it out`);
  };
  if (n !== undefined && n !== 1) refuse(`n: ${n}`);
  if (tools !== undefined && tools.length > 0) refuse("tools");
  if (logprobs) refuse("logprobs");
}

function usageOf(usage: Usage): ChatUsage {
  return {
    prompt_tokens: usage.promptTokens,
    completion_tokens: usage.completionTokens,
    total_tokens: usage.promptTokens + usage.completionTokens,
    prompt_tokens_details: { cached_tokens: usage.reusedTokens, visual_tokens: usage.visualTokens },
    time_to_first_token_ms: usage.timeToFirstTokenMs,
    prefill_tokens_per_second: usage.prefillTokensPerSecond,
    decode_tokens_per_second: usage.tokensPerSecond,
  };
}
