/** Carries out the page's calls on a server: the end of the channel that holds no model. */
import { checked } from "../arguments.js";
import type { Calls, Handle, SentPart } from "../calls.js";
import type { ChatUsage } from "../completions.js";
import { UniviError } from "../error.js";
import { inference } from "../module.js";
import { request, Unanswered } from "../network.js";
import type { Handlers, Host } from "../rpc.js";
import type { ContextUsage, Usage } from "../types.js";
import { base64, fileUrl, frameBytes, imageUrl } from "./data-url.js";
import {
  complete,
  fieldsOf,
  models,
  type Server,
  type WireMessage,
  type WirePart,
} from "./protocol.js";

/** A turn that is over. */
interface Turn {
  readonly parts: readonly WirePart[];
  readonly answer: string;
  /** Tokens of the conversation up to its end, as far as they are known. */
  readonly tokens: number;
}

interface Conversation {
  readonly system: string | undefined;
  readonly turns: readonly Turn[];
}

/**
 * Makes handlers that ask `server` for its model `name`, or for its first one. What the protocol
 * does not carry is refused.
 */
export function remoteHost(server: Server, name: string | undefined): Host<Calls> {
  return () => checked(handlersOf(server, name));
}

/** The server at an address that a user names. */
export function serverOf(
  remote: string | URL,
  page: string | undefined,
  rest: Omit<Server, "base">,
): Server {
  try {
    const base = new URL(remote, page);
    if (!/^https?:$/.test(base.protocol)) throw new Error("it must begin with http:// or https://");
    [base.search, base.hash] = ["", ""];
    if (base.pathname === "/") base.pathname = "/v1/";
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    return { base, ...rest };
  } catch (cause) {
    const why = `remote is "${String(remote).slice(0, 80)}", expected the address of a server: ${(cause as Error).message}`;
    throw new UniviError("bad-request", why, { cause });
  }
}

function refuse(what: string): never {
  throw new UniviError("bad-request", `${what} can't be had from a server; leave it out`);
}

function refuseOption(name: string, value: unknown): void {
  if (value !== undefined) refuse(name);
}

function handlersOf(server: Server, name: string | undefined): Handlers<Calls> {
  const visuals = new Map<Handle, readonly WirePart[]>();
  const clips = new Map<Handle, Uint8Array[]>();
  const sessions = new Map<Handle, Conversation>();
  let model = name ?? "";
  /** Whether frames are sent as one clip, which is no part of OpenAI's own protocol. */
  let takesClips = false;
  let capacity = 0;

  const conversation = (handle: Handle): Conversation => {
    const session = sessions.get(handle);
    if (!session)
      throw new UniviError("bad-request", "this conversation has ended; begin a new one");
    return session;
  };
  const wireParts = (parts: readonly SentPart[]): WirePart[] =>
    parts.flatMap((part): readonly WirePart[] =>
      typeof part === "string" ? [{ type: "text", text: part }] : visuals.get(part.visual)!,
    );
  const contextOf = ({ turns }: Conversation): ContextUsage => ({
    used: turns.at(-1)?.tokens ?? 0,
    capacity,
  });
  const opened = (
    { system, template, overflow }: Calls["openSession"]["params"]["options"],
    turns: readonly Turn[],
  ): Conversation => {
    refuseOption("template", template);
    if (overflow === "drop-oldest") refuse('overflow: "drop-oldest"');
    return { system, turns };
  };

  return {
    async load(_, { signal }) {
      const known = await models(server, signal);
      const found = name === undefined ? known[0] : known.find(({ id }) => id === name);
      if (!found) {
        const ids = known.slice(0, 10).map(({ id }) => JSON.stringify(id));
        const what = name === undefined ? "a model" : `the model ${JSON.stringify(name)}`;
        const why = `${server.base.href} does not serve ${what}; it has ${ids.join(", ") || "none"}`;
        throw new UniviError("bad-request", why);
      }
      model = found.id;
      takesClips = found.owned_by === "univi" || found.owned_by === "vllm";
      capacity = found.context_tokens ?? 0;
      return {
        name: model,
        device: "remote",
        adapter: server.base.href,
        vision: found.takes_visuals ?? true,
        contextLength: capacity,
        bytes: 0,
        cachedBytes: 0,
        cache: { kind: "none" },
      };
    },

    async encodeImage({ visual, image, visualTokens }) {
      refuseOption("visualTokens", visualTokens);
      visuals.set(visual, [{ type: "image_url", image_url: { url: await imageUrl(image) } }]);
    },

    async fetchFile({ url }, { signal }) {
      const { allowedOrigins } = server;
      try {
        const response = await request({ allowedOrigins }, new URL(url), {}, signal);
        if (response.ok) return await response.blob();
        throw new UniviError("io", `${url}: the server answered ${response.status}`);
      } catch (cause) {
        if (!(cause instanceof Unanswered)) throw cause;
        throw new UniviError("io", `${url}: ${cause.message}`, { cause });
      }
    },

    // The rule is the engine's, so that a clip has the same frames wherever it is answered.
    async frameTimes({ timing: { firstSeconds, lastSeconds, endSeconds }, choice }) {
      const { bindings } = await inference.instantiate(() => {});
      const first = Float64Array.from(firstSeconds);
      return [...bindings.Clip.frameTimes(first, lastSeconds, endSeconds, choice)];
    },

    async pushAnimation({ visual, blob, choice }) {
      for (const [option, value] of Object.entries(choice))
        refuseOption(`${option} of an animated GIF or WebP`, value);
      visuals.set(visual, [
        { type: "video_url", video_url: { url: await fileUrl(blob, "video") } },
      ]);
    },

    async pushFrame({ visual, frame }) {
      clips.set(visual, [...(clips.get(visual) ?? []), await frameBytes(frame)]);
    },

    async encodeClip({ visual, visualTokens }) {
      refuseOption("visualTokens", visualTokens);
      const frames = clips.get(visual)?.map(base64);
      clips.delete(visual);
      if (!frames) return; // An animation is there already.
      const url = (frame: string) => `data:image/jpeg;base64,${frame}`;
      visuals.set(
        visual,
        takesClips
          ? [
              {
                type: "video_url",
                video_url: { url: `data:video/jpeg;base64,${frames.join(",")}` },
              },
            ]
          : frames.map((frame) => ({ type: "image_url", image_url: { url: url(frame) } })),
      );
    },

    async openSession({ session, options }) {
      sessions.set(session, opened(options, []));
    },

    async fork({ session, from }) {
      sessions.set(session, conversation(from));
    },

    async restart({ session, options, turns }) {
      const past = turns.map(({ parts, answer }) => ({
        parts: wireParts(parts),
        answer,
        tokens: 0,
      }));
      sessions.set(session, opened(options, past));
    },

    async rewind({ session: handle, keep }) {
      const { system, turns } = conversation(handle);
      const session = { system, turns: turns.slice(0, keep) };
      sessions.set(handle, session);
      return contextOf(session);
    },

    async answer({ session: handle, parts, options }, { signal, emit }) {
      const session = conversation(handle);
      const question = wireParts(parts);
      const fields = { ...fieldsOf(options), model, messages: messagesOf(session, question) };
      const asked = performance.now();
      let first: number | undefined;
      let [text, finishReason]: [string, "stop" | "length"] = ["", "stop"];
      let counts = usageOf(undefined);
      const keep = () => {
        if (text === "") return;
        const tokens = counts.promptTokens + counts.completionTokens;
        const turn = { parts: question, answer: text, tokens };
        sessions.set(handle, { ...session, turns: [...session.turns, turn] });
      };
      try {
        for await (const next of complete(server, fields, signal)) {
          if (next.piece) {
            first ??= performance.now();
            text += next.piece.text;
            emit(next.piece);
          }
          finishReason = next.finishReason ?? finishReason;
          if (next.usage) counts = usageOf(next.usage);
        }
      } catch (error) {
        // What was said before an abort is part of the conversation; a failure leaves no trace.
        if (signal.aborted) keep();
        throw error;
      }
      keep();
      const ended = performance.now();
      const { promptTokens, reusedTokens, completionTokens } = counts;
      const timeToFirstTokenMs = (first ?? ended) - asked;
      const usage: Usage = {
        ...counts,
        droppedTurns: 0,
        timeToFirstTokenMs,
        prefillTokensPerSecond: (1000 * (promptTokens - reusedTokens)) / timeToFirstTokenMs,
        tokensPerSecond:
          first === undefined || completionTokens < 2
            ? 0
            : (1000 * (completionTokens - 1)) / (ended - first),
        finishReason,
      };
      return { usage, context: contextOf(conversation(handle)) };
    },

    async free({ handles }) {
      for (const handle of handles)
        for (const owners of [visuals, clips, sessions]) owners.delete(handle);
    },

    async dispose() {
      for (const owners of [visuals, clips, sessions]) owners.clear();
    },

    tokenMap: async () => refuse("a token map"),
    clipTokens: async () => refuse("measureClip"),
    append: async () => refuse("append"),
    encodeFrame: async () => refuse("watch"),
    mergeFrames: async () => refuse("watch"),
    memory: async () => refuse("memory"),
    availability: async () => refuse("availability"),
    listHub: async () => refuse("a model of the Hub"),
    resolved: async () => refuse("resolve"),
  };
}

function messagesOf({ system, turns }: Conversation, question: readonly WirePart[]): WireMessage[] {
  const user = (parts: readonly WirePart[]): WireMessage[] => {
    if (parts.length === 0) return []; // The assistant's greeting has no question before it.
    // Servers of text alone take no lists.
    const texts = parts.flatMap((part) => (part.type === "text" ? [part.text] : []));
    return [{ role: "user", content: texts.length === parts.length ? texts.join("") : parts }];
  };
  return [
    ...(system === undefined ? [] : [{ role: "system", content: system } as const]),
    ...turns.flatMap(({ parts, answer }) => [
      ...user(parts),
      { role: "assistant", content: answer } as const,
    ]),
    ...user(question),
  ];
}

/** A server's counts, as far as it has them. */
function usageOf(usage: Partial<ChatUsage> | undefined) {
  const { prompt_tokens, completion_tokens, prompt_tokens_details } = usage ?? {};
  return {
    promptTokens: prompt_tokens ?? 0,
    completionTokens: completion_tokens ?? 0,
    reusedTokens: prompt_tokens_details?.cached_tokens ?? 0,
    visualTokens: prompt_tokens_details?.visual_tokens ?? 0,
  };
}
