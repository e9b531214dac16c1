/**
 * A model for the Vercel AI SDK: `generateText`, `generateObject`, `streamText` and the hooks above
 * them run on what is in the page.
 *
 * @module univi/ai-sdk
 */
import type {
  LanguageModelV3,
  LanguageModelV3CallOptions,
  LanguageModelV3FilePart,
  LanguageModelV3FinishReason,
} from "@ai-sdk/provider";
import type {
  LanguageModelV3Message,
  LanguageModelV3StreamPart,
  LanguageModelV3Usage,
  SharedV3Warning,
} from "@ai-sdk/provider";
import type {
  ChatCompletionRequest,
  ChatCompletionContentPart,
  ChatCompletionMessage,
  ChatResponseFormat,
  ChatUsage,
} from "./completions.js";
import { UniviError } from "./error.js";
import type { Univi } from "./univi.js";

/**
 * Returns the model that `univi` has loaded, as the AI SDK wants it. Files of type `image/*` and
 * `video/*` are its pictures and clips.
 *
 * @example
 * ```ts
 * import { generateText } from "ai";
 * import { univiModel } from "univi/ai-sdk";
 * const { text } = await generateText({ model: univiModel(univi), prompt: "What can you do?" });
 * ```
 */
export function univiModel(univi: Univi): LanguageModelV3 {
  const { completions } = univi.chat;
  return {
    specificationVersion: "v3",
    provider: "univi",
    modelId: univi.info.name,
    // What the page may fetch need not be fetched for it.
    supportedUrls: { "image/*": [/^(https?|data|blob):/], "video/*": [/^(https?|blob):/] },

    async doGenerate(options) {
      const completion = await completions.create(
        { ...requestOf(options), stream: false },
        signalOf(options),
      );
      const [{ message, finish_reason: reason }] = completion.choices;
      const content = [{ type: "text" as const, text: message.content }];
      return {
        content,
        finishReason: finishOf(reason),
        usage: usageOf(completion.usage),
        warnings: warningsOf(options),
      };
    },

    async doStream(options) {
      const chunks = await completions.create(
        { ...requestOf(options), stream: true, stream_options: { include_usage: true } },
        signalOf(options),
      );
      async function* parts(): AsyncGenerator<LanguageModelV3StreamPart, void> {
        const id = "text";
        let reason: "stop" | "length" = "stop";
        yield { type: "stream-start", warnings: warningsOf(options) };
        yield { type: "text-start", id };
        for await (const {
          choices: [choice],
          usage,
        } of chunks) {
          if (choice?.delta.content) yield { type: "text-delta", id, delta: choice.delta.content };
          reason = choice?.finish_reason ?? reason;
          if (!usage) continue;
          yield { type: "text-end", id };
          yield { type: "finish", finishReason: finishOf(reason), usage: usageOf(usage) };
        }
      }
      return { stream: streamOf(parts()) };
    },
  };
}

function requestOf(options: LanguageModelV3CallOptions): ChatCompletionRequest {
  const { prompt, responseFormat } = options;
  return {
    messages: prompt.map(messageOf),
    max_tokens: options.maxOutputTokens ?? null,
    temperature: options.temperature ?? null,
    top_p: options.topP ?? null,
    top_k: options.topK ?? null,
    seed: options.seed ?? null,
    stop: options.stopSequences ?? null,
    response_format: responseFormat ? formatOf(responseFormat) : null,
    tools: options.tools ?? null,
  };
}

function formatOf(
  format: NonNullable<LanguageModelV3CallOptions["responseFormat"]>,
): ChatResponseFormat {
  if (format.type === "text") return format;
  return format.schema
    ? { type: "json_schema", json_schema: { name: format.name ?? "answer", schema: format.schema } }
    : { type: "json_object" };
}

function messageOf(message: LanguageModelV3Message): ChatCompletionMessage {
  if (message.role === "system") return { role: "system", content: message.content };
  const content: ChatCompletionContentPart[] = [];
  for (const part of message.content) {
    if (part.type === "text") content.push({ type: "text", text: part.text });
    else if (part.type === "file") content.push(shown(part));
    else if (part.type !== "reasoning")
      throw new UniviError(
        "bad-request",
        `messages with a part of type "${part.type}" are not supported; leave tools out`,
      );
  }
  if (message.role === "tool")
    throw new UniviError("bad-request", "tools are not supported; leave them out");
  return { role: message.role, content };
}

/** Pictures go by URL, which tells whether it is the same picture as before. */
function shown({ data, mediaType }: LanguageModelV3FilePart): ChatCompletionContentPart {
  const isVideo = mediaType.startsWith("video/");
  if (!isVideo && !mediaType.startsWith("image/"))
    throw new UniviError(
      "bad-request",
      `files of type ${mediaType} can't be shown; images and videos can`,
    );
  if (data instanceof URL)
    return isVideo
      ? { type: "video", video: data }
      : { type: "image_url", image_url: { url: data.href } };
  if (!isVideo)
    return {
      type: "image_url",
      image_url: {
        url: `data:${mediaType};base64,${typeof data === "string" ? data : base64(data)}`,
      },
    };
  const bytes =
    typeof data === "string" ? Uint8Array.from(atob(data), (c) => c.charCodeAt(0)) : data;
  return {
    type: "video",
    video: new Blob([bytes as Uint8Array<ArrayBuffer>], { type: mediaType }),
  };
}

function base64(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000)
    text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

function signalOf({ abortSignal }: LanguageModelV3CallOptions): { signal?: AbortSignal } {
  return abortSignal ? { signal: abortSignal } : {};
}

/** What was asked for and has no effect. */
function warningsOf({
  presencePenalty,
  frequencyPenalty,
}: LanguageModelV3CallOptions): SharedV3Warning[] {
  const given = Object.entries({ presencePenalty, frequencyPenalty }).filter(
    ([, value]) => value !== undefined,
  );
  return given.map(([feature]) => ({ type: "unsupported", feature }));
}

function finishOf(reason: "stop" | "length"): LanguageModelV3FinishReason {
  return { unified: reason, raw: reason };
}

function usageOf({
  prompt_tokens,
  completion_tokens,
  prompt_tokens_details: { cached_tokens },
}: ChatUsage): LanguageModelV3Usage {
  return {
    inputTokens: {
      total: prompt_tokens,
      noCache: prompt_tokens - cached_tokens,
      cacheRead: cached_tokens,
      cacheWrite: undefined,
    },
    outputTokens: { total: completion_tokens, text: completion_tokens, reasoning: undefined },
  };
}

function streamOf<T>(parts: AsyncGenerator<T, void>): ReadableStream<T> {
  return new ReadableStream<T>({
    async pull(controller) {
      const { done, value } = await parts.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await parts.return();
    },
  });
}
