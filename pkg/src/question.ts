/** A question as it was put: its parts and options, copied and checked. */
import { type AnswerSink, StreamedAnswer } from "./answer.js";
import type { SentSampling } from "./calls.js";
import { copyOptions } from "./options.js";
import { prepareParts, type PreparedPart, VISUAL, type VisualOptions } from "./parts.js";
import type { Client } from "./rpc.js";
import { SAMPLING, samplingOf } from "./sampling.js";
import { TokenMaps } from "./token-maps.js";
import type { SamplingOptions, Usage } from "./types.js";

/** How one question is answered. */
export interface AskOptions extends SamplingOptions, VisualOptions {}

/** What a question is made of. */
export interface Question {
  readonly parts: readonly PreparedPart[];
  readonly visual: VisualOptions;
  readonly sampling: SentSampling;
}

/**
 * Returns the answer that `run` gives. Parts and options are copied now; what is wrong with them is
 * thrown to those who read the answer, as everything that goes wrong with it.
 */
export function answerTo(
  client: Client,
  parts: unknown,
  options: unknown,
  run: (question: Question, sink: AnswerSink) => Promise<Usage>,
): StreamedAnswer {
  let question: Question;
  try {
    question = copied(parts, options);
  } catch (error) {
    return new StreamedAnswer(undefined, new TokenMaps(client), () => Promise.reject(error));
  }
  const { signal } = question.visual;
  return new StreamedAnswer(signal, new TokenMaps(client), (sink) => run(question, sink));
}

function copied(parts: unknown, options: unknown): Question {
  const all = copyOptions<AskOptions>(options, { ...VISUAL, ...SAMPLING }, "ask");
  const { signal, onProgress, visualTokens, ...sampling } = all;
  return {
    parts: prepareParts(parts),
    visual: { signal, onProgress, visualTokens },
    sampling: samplingOf(sampling),
  };
}
