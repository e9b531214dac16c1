/** The sampling options of a question on their way to the worker. */
import type { SentSampling } from "./calls.js";
import { UniviError } from "./error.js";
import type { SamplingOptions } from "./types.js";

/** Returns what crosses the channel: a schema crosses as JSON. */
export function samplingOf(options: SamplingOptions): SentSampling {
  const { maxTokens, temperature, topK, topP, minP, repetitionPenalty, seed, stop, jsonSchema } =
    options;
  const numbers = { maxTokens, temperature, topK, topP, minP, repetitionPenalty, seed };
  const given = Object.entries(numbers).filter(([, value]) => value !== undefined);
  const sampling: SentSampling = {
    ...Object.fromEntries(given),
    ...(stop === undefined ? {} : { stop }),
  };
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
