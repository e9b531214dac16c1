/**
 * Chat completions in OpenAI's shapes, so that code that is written for a server runs on what is in
 * the page.
 */
import { type AnswerSink, StreamedAnswer } from "./answer.js";
import type {
  AnswerPiece,
  Handle,
  PastTurn,
  SentLogprob,
  SentPart,
  SentSampling,
} from "./calls.js";
import { UniviError } from "./error.js";
import { checkMessageFiles } from "./message-files.js";
import {
  type ClipSource,
  type ImageSource,
  prepareClip,
  prepareImage,
  type PreparedPart,
} from "./parts.js";
import type { Client } from "./rpc.js";
import { samplingOf } from "./sampling.js";
import { TokenMaps } from "./token-maps.js";
import type { FrameChoice, ModelInfo, SamplingOptions, Usage } from "./types.js";
import { PartUploader } from "./uploader.js";

/** A part of a message: OpenAI's `text` and `image_url`, and ours for what has no URL. */
export type ChatCompletionContentPart =
  | { readonly type: "text"; readonly text: string }
  | {
      readonly type: "image_url";
      /** The URL, alone or in OpenAI's object; of `detail` there is `"auto"` alone. */
      readonly image_url: string | { readonly url: string; readonly detail?: "auto" | null };
    }
  | { readonly type: "image"; readonly image: ImageSource }
  | ({ readonly type: "video"; readonly video: ClipSource } & FrameChoice);

/**
 * A message of a conversation. Roles may follow each other in any order, up to the user's question:
 * neighbours of one role become one turn. Instructions of `system` and `developer` that come before
 * all else replace the template's own; later ones are read with the user's next words.
 */
export interface ChatCompletionMessage {
  readonly role: "system" | "developer" | "user" | "assistant";
  /** `null` for an assistant that said nothing. */
  readonly content: string | readonly ChatCompletionContentPart[] | null;
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
 * A request. `null` stands for a field that is left out. Every other field, OpenAI's or not, is
 * refused by name, unless its value asks for what happens anyway, as `n: 1` does.
 */
export interface ChatCompletionRequest {
  readonly messages: readonly ChatCompletionMessage[];
  /** Any name: there is one model. */
  readonly model?: string | null;
  readonly stream?: boolean | null;
  /** With `stream: true` alone. */
  readonly stream_options?: { readonly include_usage?: boolean | null } | null;
  readonly max_tokens?: number | null;
  readonly max_completion_tokens?: number | null;
  readonly temperature?: number | null;
  readonly top_p?: number | null;
  /** Not OpenAI's, but of many servers: see `SamplingOptions`. */
  readonly top_k?: number | null;
  readonly min_p?: number | null;
  readonly repetition_penalty?: number | null;
  readonly seed?: number | null;
  readonly stop?: string | readonly string[] | null;
  readonly n?: number | null;
  readonly response_format?: ChatResponseFormat | null;
  readonly tools?: readonly unknown[] | null;
  /**
   * Whether the answer's tokens come with their log-probabilities: as the model computes them,
   * before a repetition penalty, a schema, `temperature` and the cuts.
   */
  readonly logprobs?: boolean | null;
  /** With `logprobs`: how many of the likeliest tokens are reported beside each, 20 at most. */
  readonly top_logprobs?: number | null;
}

/** A token that the model might say. */
export interface ChatTopLogprob {
  readonly token: string;
  readonly logprob: number;
  /** In UTF-8; several tokens may make up one character. */
  readonly bytes: readonly number[];
}

/** The tokens of an answer, or of a piece of it. */
export interface ChatLogprobs {
  readonly content: readonly (ChatTopLogprob & {
    readonly top_logprobs: readonly ChatTopLogprob[];
  })[];
  readonly refusal: null;
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
      /** `null` where they are not asked for. */
      readonly logprobs: ChatLogprobs | null;
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
    /** Those of the delta's tokens; `null` where there are none, or they are not asked for. */
    readonly logprobs: ChatLogprobs | null;
    readonly finish_reason: ChatFinishReason | null;
  }[];
  readonly usage?: ChatUsage | null;
}

/** What goes with a request. */
export interface ChatRequestOptions {
  readonly signal?: AbortSignal;
}

/** A message as it was sent to the model; its uploader owns what was encoded. */
interface SentMessage {
  readonly message: ChatCompletionMessage;
  readonly parts: readonly SentPart[];
  readonly uploader: PartUploader;
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
  readonly #messageFiles: string | URL | undefined;
  readonly #session: Handle;
  #sentMessages: SentMessage[] = [];
  #before: Promise<unknown> = Promise.resolve();
  #count = 0;

  /** @internal */
  constructor(client: Client, info: ModelInfo, messageFiles: string | URL | undefined) {
    this.#messageFiles = messageFiles;
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
    request: ChatCompletionRequest & { readonly stream?: false | null },
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
    checkMessages(request.messages);
    checkMessageFiles(request.messages, this.#messageFiles);
    const logprobs = logprobsOf(request);
    const sampling = {
      ...samplingOf(optionsOf(request)),
      ...(logprobs === undefined ? {} : { logprobs }),
    };
    const head: Head = {
      id: `chatcmpl-${this.#count++}`,
      created: Math.floor(Date.now() / 1000),
      model: this.#info.name,
    };
    const pieces: AnswerPiece[] = [];
    const answer = new StreamedAnswer(options.signal, new TokenMaps(this.#client), (sink) =>
      this.#answer(request.messages, sampling, sink, (piece) => pieces.push(piece)),
    );
    if (request.stream)
      return chunks(head, answer, pieces, request.stream_options?.include_usage ?? false);
    const content = await answer.text();
    const usage = answer.usage!;
    const message = { role: "assistant", content } as const;
    const choice = {
      index: 0,
      message,
      finish_reason: usage.finishReason,
      logprobs: logprobs === undefined ? null : logprobsJson(pieces),
    } as const;
    return { ...head, object: "chat.completion", choices: [choice], usage: usageOf(usage) };
  }

  async #answer(
    messages: readonly ChatCompletionMessage[],
    sampling: SentSampling,
    { signal, encoded, piece }: AnswerSink,
    onPiece: (piece: AnswerPiece) => void,
  ): Promise<Usage> {
    const before = this.#before;
    let done = () => {};
    this.#before = new Promise<void>((resolve) => (done = resolve));
    try {
      await before;
      signal.throwIfAborted();
      const { system, past, question } = conversationOf(await this.#upload(messages, signal));
      encoded();
      const session = this.#session;
      await this.#client.call(
        "restart",
        { session, options: system === undefined ? {} : { system }, turns: past },
        { signal },
      );
      const params = { session, parts: question, options: sampling };
      const onEvent = (next: AnswerPiece) => {
        onPiece(next);
        piece(next.text);
      };
      return (await this.#client.call("answer", params, { signal, onEvent })).usage;
    } finally {
      done();
    }
  }

  /** Encodes what is visual in messages that differ from those of the last request. */
  async #upload(
    messages: readonly ChatCompletionMessage[],
    signal: AbortSignal,
  ): Promise<readonly SentMessage[]> {
    let same = 0;
    while (
      same < messages.length &&
      same < this.#sentMessages.length &&
      equal(messages[same]!, this.#sentMessages[same]!.message)
    )
      same++;
    for (const { uploader } of this.#sentMessages.splice(same)) uploader.free();
    for (const [i, message] of [...messages.entries()].slice(same)) {
      const uploader = new PartUploader(this.#client, { signal });
      try {
        const parts = await uploader.upload(partsOf(message, `messages[${i}]`));
        this.#sentMessages.push({ message: copyOf(message), parts, uploader });
      } catch (error) {
        uploader.free();
        throw error;
      }
    }
    return this.#sentMessages;
  }
}

async function* chunks(
  head: Head,
  answer: StreamedAnswer,
  pieces: readonly AnswerPiece[],
  includeUsage: boolean,
): AsyncGenerator<ChatCompletionChunk, void> {
  const nothing = includeUsage ? { usage: null } : {};
  const chunk = (
    delta: { role?: "assistant"; content?: string },
    logprobs: ChatLogprobs | null,
    finish_reason: ChatFinishReason | null,
  ): ChatCompletionChunk => {
    return {
      ...head,
      object: "chat.completion.chunk",
      choices: [{ index: 0, delta, logprobs, finish_reason }],
      ...nothing,
    };
  };
  yield chunk({ role: "assistant", content: "" }, null, null);
  let read = 0;
  for await (const content of answer) {
    const piece = pieces[read++]!;
    yield chunk({ content }, piece.logprobs ? logprobsJson([piece]) : null, null);
  }
  const usage = answer.usage!;
  yield chunk({}, null, usage.finishReason);
  if (includeUsage)
    yield { ...head, object: "chat.completion.chunk", choices: [], usage: usageOf(usage) };
}

function logprobsJson(pieces: readonly AnswerPiece[]): ChatLogprobs {
  const plain = ({ token, logprob, bytes }: SentLogprob) => ({
    token,
    logprob,
    bytes: [...bytes],
  });
  const tokens = pieces.flatMap(({ logprobs = [] }) => logprobs);
  const content = tokens.map(({ top, ...token }) => ({
    ...plain(token),
    top_logprobs: top.map(plain),
  }));
  return { content, refusal: null };
}

interface Conversation {
  readonly system: string | undefined;
  readonly past: readonly PastTurn[];
  readonly question: readonly SentPart[];
}

/** Whether the model is to read it with what the user says, or as the instructions before all. */
const instructs = ({ role }: ChatCompletionMessage) => role === "system" || role === "developer";

/** Messages as turns. A turn without parts is a greeting of the assistant. */
function conversationOf(sent: readonly SentMessage[]): Conversation {
  const first = sent.findIndex(({ message }) => !instructs(message));
  const textOf = ({ parts }: SentMessage) =>
    parts.filter((part) => typeof part === "string").join("\n");
  const system = sent.slice(0, first).map(textOf).join("\n");
  const past: PastTurn[] = [];
  let question: SentPart[] = [];
  let answers: string[] = [];
  for (const one of sent.slice(first)) {
    if (one.message.role === "assistant") {
      if (one.parts.length > 0) answers.push(textOf(one));
      continue;
    }
    if (answers.length > 0) {
      past.push({ parts: question, answer: answers.join("\n") });
      [question, answers] = [[], []];
    }
    // A line break follows each visual anyway.
    if (typeof question.at(-1) === "string" && one.parts.length > 0) question.push("\n");
    question.push(...one.parts);
  }
  return { system: first > 0 ? system : undefined, past, question };
}

function refuse(what: string): never {
  throw new UniviError("bad-request", what);
}

/** Refuses what no turns can be made of, before anything is encoded. */
function checkMessages(messages: readonly ChatCompletionMessage[]): void {
  if (!Array.isArray(messages) || messages.length === 0)
    refuse("messages must be a list with the user's question at its end");
  for (const [i, message] of messages.entries()) {
    const at = `messages[${i}]`;
    if (typeof message !== "object" || message === null) refuse(`${at} is no message`);
    const { role, content, ...others } = message;
    const named: Record<string, unknown> = others;
    if (role === ("tool" as string) || role === ("function" as string))
      refuse(`${at} is of role "${role}": tools are not supported`);
    if (!["system", "developer", "user", "assistant"].includes(role))
      refuse(
        `${at} is of role ${JSON.stringify(role)}; there are system, developer, user and assistant`,
      );
    for (const [name, value] of Object.entries(named)) {
      if (value != null && !isEmpty(value)) refuse(`${at}.${name} is not supported; leave it out`);
    }
    if (content == null && role !== "assistant")
      refuse(`${at}.content is missing; a message of role "${role}" needs a text or parts`);
    partsOf(message, at);
  }
  const said: ChatCompletionMessage[] = messages.filter(
    (message) => partsOf(message, "").length > 0,
  );
  if (!said.some(({ role }) => role === "user") || said.at(-1)?.role === "assistant")
    refuse("the last message is not the user's: there is no question to answer");
}

/** The parts of a message; `at` is its place in the request. */
function partsOf({ role, content }: ChatCompletionMessage, at: string): PreparedPart[] {
  if (content == null) return [];
  if (typeof content === "string") return content === "" ? [] : [{ kind: "text", text: content }];
  if (!Array.isArray(content)) refuse(`${at}.content is neither a text nor a list of parts`);
  return (content as readonly ChatCompletionContentPart[]).map((part, i): PreparedPart => {
    const place = `${at}.content[${i}]`;
    const isText = (text: unknown): string =>
      typeof text === "string" ? text : refuse(`${place} has no text`);
    if (typeof part !== "object" || part === null) refuse(`${place} is no part of a message`);
    if (role !== "user" && part.type !== "text")
      refuse(
        `${place} is of type "${part.type}" in a message of role "${role}"; only the user shows something`,
      );
    if (part.type !== "video")
      refuseOthers(part, `${place}.`, (name) => name === "type" || name === part.type);
    switch (part.type) {
      case "text":
        return { kind: "text", text: isText(part.text) };
      case "image_url":
        return prepareImage(urlOf(part.image_url, `${place}.image_url`));
      case "image":
        return prepareImage(part.image ?? refuse(`${place} has no image`));
      case "video": {
        const { type: _type, ...clip } = part;
        return clip.video ? prepareClip(clip) : refuse(`${place} has no video`);
      }
      default:
        return refuse(
          `${place} is of type "${(part as { type: string }).type}"; there are text, image_url, image and video`,
        );
    }
  });
}

function urlOf(
  image: Extract<ChatCompletionContentPart, { type: "image_url" }>["image_url"],
  at: string,
) {
  const { url } = typeof image === "string" ? { url: image } : { ...image };
  refuseOthers(typeof image === "string" ? {} : { ...image }, `${at}.`, (name, value) =>
    name === "detail" ? value === "auto" : name === "url",
  );
  if (typeof url !== "string") refuse(`${at} has no url`);
  try {
    return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (cause) {
    throw new UniviError("bad-request", `${at}: "${url.slice(0, 100)}" is no URL`, { cause });
  }
}

/** As it is now: callers may go on writing into their own. */
function copyOf({ role, content }: ChatCompletionMessage): ChatCompletionMessage {
  const copy = (part: ChatCompletionContentPart): ChatCompletionContentPart =>
    part.type === "image_url" && typeof part.image_url === "object"
      ? { ...part, image_url: { ...part.image_url } }
      : { ...part };
  return { role, content: Array.isArray(content) ? content.map(copy) : content };
}

/** Whether two messages say and show the same. */
function equal(a: ChatCompletionMessage, b: ChatCompletionMessage): boolean {
  if (a.role !== b.role) return false;
  const [parts, others] = [a.content, b.content];
  if (typeof parts === "string" || typeof others === "string") return parts === others;
  if (parts === null || others === null) return parts === others;
  return parts.length === others.length && parts.every((part, i) => equalParts(part, others[i]!));
}

function equalParts(a: ChatCompletionContentPart, b: ChatCompletionContentPart): boolean {
  const plain = (part: ChatCompletionContentPart): Record<string, unknown> =>
    part.type === "image_url"
      ? {
          type: part.type,
          url: typeof part.image_url === "string" ? part.image_url : part.image_url.url,
        }
      : { ...part };
  const [x, y] = [plain(a), plain(b)];
  return (
    Object.keys(x).length === Object.keys(y).length &&
    Object.keys(x).every((key) => x[key] === y[key])
  );
}

function optionsOf(request: ChatCompletionRequest): SamplingOptions {
  const { stop } = request;
  const given = {
    maxTokens: request.max_completion_tokens ?? request.max_tokens,
    temperature: request.temperature,
    topP: request.top_p,
    topK: request.top_k,
    minP: request.min_p,
    repetitionPenalty: request.repetition_penalty,
    seed: request.seed,
    stop: typeof stop === "string" ? [stop] : stop,
    jsonSchema: schemaOf(request.response_format ?? { type: "text" }),
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value != null));
}

function schemaOf(format: ChatResponseFormat): object | undefined {
  switch (format.type) {
    case "text":
      return undefined;
    case "json_object":
      return { type: "object" };
    case "json_schema": {
      const { schema } = format.json_schema ?? {};
      if (typeof schema !== "object" || schema === null)
        refuse("response_format: json_schema.schema is no object; put the JSON schema there");
      return schema;
    }
    default:
      return refuse(
        `response_format of type "${(format as { type: string }).type}" is not supported; there are text, json_object and json_schema`,
      );
  }
}

/** The most tokens that are reported beside one of an answer. */
const MAX_TOP_LOGPROBS = 20;

/** Of how many tokens beside each the log-probabilities are asked for, where they are. */
function logprobsOf({ logprobs, top_logprobs: top }: ChatCompletionRequest): number | undefined {
  if (logprobs != null && typeof logprobs !== "boolean")
    refuse(`logprobs is ${JSON.stringify(logprobs)}, expected true or false`);
  if (top != null && !(Number.isInteger(top) && top >= 0 && top <= MAX_TOP_LOGPROBS))
    refuse(`top_logprobs is ${JSON.stringify(top)}, expected 0 to ${MAX_TOP_LOGPROBS}`);
  if (top && !logprobs)
    refuse("top_logprobs needs logprobs: true; add it, or leave top_logprobs out");
  return logprobs ? (top ?? 0) : undefined;
}

/** Fields that have an effect. */
const FIELDS = new Set<keyof ChatCompletionRequest>([
  "messages",
  "model",
  "stream",
  "stream_options",
  "max_tokens",
  "max_completion_tokens",
  "temperature",
  "top_p",
  "top_k",
  "min_p",
  "repetition_penalty",
  "seed",
  "stop",
  "response_format",
  "logprobs",
  "top_logprobs",
]);

/** Fields that don't, by the values that ask for what happens anyway. */
const NEUTRAL: Record<string, (value: unknown) => boolean> = {
  n: (value) => value === 1,
  tools: isEmpty,
  functions: isEmpty,
  logit_bias: isEmpty,
  tool_choice: (value) => value === "none" || value === "auto",
  function_call: (value) => value === "none" || value === "auto",
  parallel_tool_calls: () => true, // There are no tools.
  frequency_penalty: (value) => value === 0,
  presence_penalty: (value) => value === 0,
  modalities: (value) => Array.isArray(value) && value.every((kind) => kind === "text"),
  reasoning_effort: (value) => value === "none",
  store: (value) => value === false,
  service_tier: (value) => value === "auto" || value === "default",
  verbosity: (value) => value === "medium",
  // These say who asks and what for, and nothing about the answer.
  metadata: () => true,
  user: () => true,
  safety_identifier: () => true,
  prompt_cache_key: () => true,
};

function isEmpty(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}

/** Refuses the fields that have a value and are not taken. */
function refuseOthers(
  fields: object,
  prefix: string,
  isTaken: (name: string, value: unknown) => boolean,
): void {
  for (const [name, value] of Object.entries(fields))
    if (value != null && !isTaken(name, value)) {
      const text = String(JSON.stringify(value) ?? typeof value).slice(0, 60);
      refuse(`${prefix}${name}: ${text} is not supported; leave it out`);
    }
}

function refuseUnknown(request: ChatCompletionRequest): void {
  refuseOthers(
    request,
    "",
    (name, value) => FIELDS.has(name as keyof ChatCompletionRequest) || !!NEUTRAL[name]?.(value),
  );
  if (request.stream_options && !request.stream)
    refuse("stream_options is for streams alone: add stream: true, or leave it out");
  refuseOthers(request.stream_options ?? {}, "stream_options.", (name, value) =>
    name === "include_obfuscation" ? value === false : name === "include_usage",
  );
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
