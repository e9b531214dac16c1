/**
 * Hooks for React: a model, and an answer as it is written.
 *
 * @module univi/react
 */
import { useCallback, useEffect, useRef, useState } from "react";

import type { ChatEventMap, UniviChatElement } from "./elements/chat.js";
import type { UniviError } from "./error.js";
import type { Part } from "./parts.js";
import type { AskOptions } from "./question.js";
import type { Session } from "./session.js";
import type { LoadProgress, Usage } from "./types.js";
import { type RemoteOptions, Univi, type UniviOptions } from "./univi.js";

/** How far a model is. */
export type UniviState =
  | { readonly status: "idle" }
  | { readonly status: "loading"; readonly progress?: LoadProgress }
  | { readonly status: "ready"; readonly univi: Univi }
  | { readonly status: "failed"; readonly error: UniviError };

declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      /** `import "univi/chat"` defines it. */
      "univi-chat": import("react").DetailedHTMLProps<
        import("react").HTMLAttributes<UniviChatElement>,
        UniviChatElement
      > & {
        readonly model?: string;
        readonly remote?: string;
        readonly apiKey?: string;
        readonly device?: string;
        readonly placeholder?: string;
        readonly univi?: Univi | undefined;
        readonly onprogress?: (event: ChatEventMap["progress"]) => void;
        readonly onanswer?: (event: ChatEventMap["answer"]) => void;
        readonly onfailure?: (event: ChatEventMap["failure"]) => void;
      };
    }
  }
}

/** How far an answer is; `text` is what has come of it. */
export type AnswerState =
  | { readonly status: "idle"; readonly text: "" }
  | { readonly status: "answering"; readonly text: string }
  | { readonly status: "done"; readonly text: string; readonly usage: Usage | undefined }
  | { readonly status: "failed"; readonly text: string; readonly error: UniviError };

/**
 * Loads a model when it is told to, and disposes of it with the component, or when `model` or
 * `remote` names another one. The other options count when it is loaded.
 *
 * @example
 * ```tsx
 * const { load, ...model } = useUnivi({ model: "/models/univi-nano/manifest.json" });
 * const { ask, text } = useAnswer(model.status === "ready" ? model.univi : undefined);
 * if (model.status !== "ready") return <button onClick={load}>Load the model</button>;
 * return <button onClick={() => ask([photo, "What is on it?"])}>{text || "Ask"}</button>;
 * ```
 */
export function useUnivi(options: UniviOptions | RemoteOptions): UniviState & {
  /** Loads the model, unless it is there or on its way. What goes wrong is the state. */
  readonly load: () => void;
} {
  const [state, setState] = useState<UniviState>({ status: "idle" });
  const latest = useRef(options);
  latest.current = options;
  const current = useRef<AbortController>(undefined);

  const address =
    "remote" in options ? `${options.remote} ${options.model}` : addressOf(options.model);
  // For another model it is another function: effects that load at once run again.
  const load = useCallback(() => {
    if (current.current) return;
    const { signal } = latest.current;
    const left = (current.current = new AbortController());
    const whileThere = (next: UniviState) => {
      if (!left.signal.aborted) setState(next);
    };
    whileThere({ status: "loading" });
    const either = signal ? AbortSignal.any([signal, left.signal]) : left.signal;
    createFrom(latest.current, either, (progress) => {
      if (progress.phase !== "ready") whileThere({ status: "loading", progress });
    }).then(
      (univi) => {
        if (left.signal.aborted) return univi.dispose();
        left.signal.addEventListener("abort", () => univi.dispose());
        whileThere({ status: "ready", univi });
      },
      (error: UniviError) => {
        if (current.current === left) current.current = undefined; // It may be tried again.
        whileThere(signal?.aborted ? { status: "idle" } : { status: "failed", error });
      },
    );
  }, [address]);

  useEffect(
    () => () => {
      current.current?.abort();
      current.current = undefined;
      setState({ status: "idle" });
    },
    [address],
  );
  return { ...state, load };
}

function createFrom(
  options: UniviOptions | RemoteOptions,
  signal: AbortSignal,
  onProgress: (progress: LoadProgress) => void,
): Promise<Univi> {
  if ("remote" in options) return Univi.create({ ...options, signal });
  return Univi.create({
    ...options,
    signal,
    onProgress(progress) {
      options.onProgress?.(progress);
      onProgress(progress);
    },
  });
}

/** What tells a model from another one. */
function addressOf(model: UniviOptions["model"] | undefined): string {
  if (typeof model === "string" || model instanceof URL) return String(model);
  if (!model) return "";
  if ("url" in model) return String(model.url);
  if ("kind" in model) return `a folder ${model.name}`;
  const said = ({ name, webkitRelativePath, size, lastModified }: File) =>
    [webkitRelativePath || name, size, lastModified].join();
  return [...model].map(said).join("\n");
}

/**
 * Asks a model or a conversation, and keeps up with the answer; the last question counts.
 *
 * @example
 * ```tsx
 * const session = useMemo(() => univi.session(), [univi]);
 * useEffect(() => () => session.dispose(), [session]);
 * const { ask, stop, status, text } = useAnswer(session);
 * ```
 */
export function useAnswer(asked: Pick<Univi | Session, "ask"> | undefined): AnswerState & {
  /** Asks; an answer that is still being written is stopped. Without a model it does nothing. */
  readonly ask: (parts: string | Iterable<Part>, options?: AskOptions) => void;
  /** Stops the answer where it is. */
  readonly stop: () => void;
} {
  const [state, setState] = useState<AnswerState>({ status: "idle", text: "" });
  const current = useRef<AbortController>(undefined);
  const latest = useRef(asked);
  latest.current = asked;

  const ask = useCallback((parts: string | Iterable<Part>, options: AskOptions = {}) => {
    if (!latest.current) return;
    current.current?.abort();
    const mine = (current.current = new AbortController());
    const { signal } = options;
    const answer = latest.current.ask(parts, {
      ...options,
      signal: signal ? AbortSignal.any([signal, mine.signal]) : mine.signal,
    });
    let text = "";
    const whileAsked = (next: AnswerState) => {
      if (current.current === mine) setState(next);
    };
    whileAsked({ status: "answering", text });
    (async () => {
      for await (const piece of answer) whileAsked({ status: "answering", text: (text += piece) });
      whileAsked({ status: "done", text, usage: answer.usage });
    })().catch((error: UniviError) =>
      whileAsked(
        mine.signal.aborted || signal?.aborted
          ? { status: "done", text, usage: answer.usage }
          : { status: "failed", text, error },
      ),
    );
  }, []);

  const stop = useCallback(() => current.current?.abort(), []);
  useEffect(
    () => () => {
      const left = current.current;
      current.current = undefined;
      left?.abort();
      setState({ status: "idle", text: "" });
    },
    [asked],
  );
  return { ...state, ask, stop };
}
