/** OpenAI's chat completions, asked for over HTTP. */
import type { AnswerPiece, SentLogprob, SentSampling } from "../calls.js";
import type {
  ChatCompletionChunk,
  ChatLogprobs,
  ChatTopLogprob,
  ChatUsage,
} from "../completions.js";
import { UniviError, type UniviErrorCode } from "../error.js";
import { type Network, request, Unanswered } from "../network.js";

/** A server, and who asks. */
export interface Server extends Pick<Network, "allowedOrigins"> {
  /** The address that `chat/completions` and `models` are below; it ends with a slash. */
  readonly base: URL;
  readonly apiKey: string | undefined;
}

/** A message as it is sent. */
export interface WireMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string | readonly WirePart[];
}

/** A part of a message. */
export type WirePart =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image_url"; readonly image_url: { readonly url: string } }
  | { readonly type: "video_url"; readonly video_url: { readonly url: string } };

/** What a server says of a model; all but `id` is said by `univi serve` alone. */
export interface WireModel {
  readonly id: string;
  readonly owned_by?: string;
  readonly context_tokens?: number;
  readonly takes_visuals?: boolean;
}

/** A piece of an answer, and what comes at its end. */
export interface WirePiece {
  readonly piece?: AnswerPiece;
  readonly finishReason?: "stop" | "length";
  readonly usage?: Partial<ChatUsage>;
}

/** How many characters of an answer that is no JSON an error shows. */
const SHOWN = 200;

/** Lists the server's models. */
export async function models(server: Server, signal: AbortSignal): Promise<readonly WireModel[]> {
  const url = new URL("models", server.base);
  const response = await send(server, url, { method: "GET" }, signal);
  const list: unknown = await response.json().catch(() => undefined);
  const data = (list as { data?: unknown } | undefined)?.data;
  if (!Array.isArray(data))
    throw new UniviError(
      "io",
      `${url.href}: the answer is no list of models; is this the address of an OpenAI-compatible server?`,
    );
  return data as WireModel[];
}

/** Returns the fields of a request that say how the answer is chosen. */
export function fieldsOf(options: SentSampling): Record<string, unknown> {
  const { jsonSchema, logprobs, stop } = options;
  const fields = {
    max_tokens: options.maxTokens,
    temperature: options.temperature,
    top_p: options.topP,
    top_k: options.topK,
    min_p: options.minP,
    repetition_penalty: options.repetitionPenalty,
    seed: options.seed,
    stop: stop?.length ? stop : undefined,
    logprobs: logprobs === undefined ? undefined : true,
    top_logprobs: logprobs || undefined,
    response_format:
      jsonSchema === undefined
        ? undefined
        : {
            type: "json_schema",
            json_schema: { name: "answer", strict: true, schema: JSON.parse(jsonSchema) as object },
          },
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/** Asks for a completion, and returns its pieces as they come. */
export async function* complete(
  server: Server,
  fields: Readonly<Record<string, unknown>>,
  signal: AbortSignal,
): AsyncGenerator<WirePiece, void> {
  const url = new URL("chat/completions", server.base);
  const body = JSON.stringify({
    ...fields,
    stream: true,
    stream_options: { include_usage: true },
  });
  const response = await send(server, url, { method: "POST", body }, signal);
  let ended = false;
  for await (const data of eventsOf(url, response, signal)) {
    if (data === "[DONE]") return;
    const chunk = parsed(url, data) as Partial<ChatCompletionChunk> & { error?: unknown };
    if (chunk.error) throw new UniviError(...refusalOf(url, 500, chunk));
    const choice = chunk.choices?.[0];
    const text = choice?.delta?.content;
    const finishReason = choice?.finish_reason;
    ended ||= Boolean(finishReason);
    yield {
      ...(text ? { piece: { text, ...logprobsOf(choice?.logprobs) } } : {}),
      ...(finishReason ? { finishReason: finishOf(url, finishReason) } : {}),
      ...(chunk.usage ? { usage: chunk.usage } : {}),
    };
  }
  if (!ended) throw new UniviError("io", `${url.href}: the answer broke off before its end`);
}

/** Some servers name what ended an answer; all else left it incomplete. */
const ENDS = new Set(["stop", "eos_token", "stop_sequence"]);

function finishOf(url: URL, reason: string): "stop" | "length" {
  if (reason === "length") return "length";
  if (ENDS.has(reason)) return "stop";
  throw new UniviError("io", `${url.href}: the answer ended with "${reason}", and is not whole`);
}

function logprobsOf(given: ChatLogprobs | null | undefined): Pick<AnswerPiece, "logprobs"> {
  if (!given?.content) return {};
  const plain = ({ token, logprob, bytes }: ChatTopLogprob): SentLogprob => ({
    token,
    logprob,
    bytes: bytes ? Uint8Array.from(bytes) : new TextEncoder().encode(token),
  });
  const tokens = given.content.map((token) => ({
    ...plain(token),
    top: token.top_logprobs.map(plain),
  }));
  return { logprobs: tokens };
}

async function send(
  server: Server,
  url: URL,
  { method, body }: { readonly method: "GET" | "POST"; readonly body?: string },
  signal: AbortSignal,
): Promise<Response> {
  const headers = new Headers(body === undefined ? {} : { "Content-Type": "application/json" });
  if (server.apiKey !== undefined) headers.set("Authorization", `Bearer ${server.apiKey}`);
  const { allowedOrigins } = server;
  let response: Response;
  try {
    response = await request({ allowedOrigins }, url, { method, headers, body }, signal);
  } catch (cause) {
    if (!(cause instanceof UniviError || cause instanceof Unanswered)) throw cause;
    const page = globalThis.location === undefined ? undefined : globalThis.origin;
    const remedy =
      page === undefined || url.origin === page
        ? ""
        : `; univi serve lets pages of ${page} ask with --allow-origin ${page}`;
    throw new UniviError("io", `${cause.message}${remedy}`, { cause });
  }
  if (response.ok) return response;
  const text = await response.text();
  let refusal: unknown;
  try {
    refusal = JSON.parse(text);
  } catch {
    refusal = { error: { message: text.trim().slice(0, SHOWN) } };
  }
  throw new UniviError(...refusalOf(url, response.status, refusal));
}

/** What a server's refusal is called here. */
function refusalOf(url: URL, status: number, answer: unknown): [UniviErrorCode, string] {
  const { error } = answer as { error?: string | { message?: unknown; code?: unknown } };
  const message = typeof error === "object" ? error?.message : error;
  const said = typeof message === "string" && message !== "" ? message : `status ${status}`;
  const code = typeof error === "object" ? error?.code : undefined;
  const text = `${url.host}: ${said}`;
  if (code === "context_length_exceeded") return ["context-overflow", text];
  if (code === "out-of-memory") return ["out-of-memory", text];
  const isAsker = [400, 404, 405, 413, 422].includes(status);
  return [isAsker ? "bad-request" : "io", text];
}

/** The data of server-sent events. */
async function* eventsOf(
  url: URL,
  response: Response,
  signal: AbortSignal,
): AsyncGenerator<string, void> {
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream"))
    throw new UniviError("io", `${url.href}: the answer is no stream of events`);
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((cause: unknown) => {
        signal.throwIfAborted();
        const why = (cause as Error).message;
        throw new UniviError("io", `${url.href}: the answer broke off: ${why}`, { cause });
      });
      if (done) return;
      text += decoder.decode(value, { stream: true });
      const lines = text.split(/\r?\n/);
      text = lines.pop()!;
      for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trimStart();
    }
  } finally {
    // Where nobody reads on, the server may stop.
    await reader.cancel().catch(() => {});
  }
}

function parsed(url: URL, data: string): object {
  try {
    return JSON.parse(data) as object;
  } catch (cause) {
    const why = `${url.href}: an event of the answer is no JSON: ${data.slice(0, SHOWN)}`;
    throw new UniviError("io", why, { cause });
  }
}
