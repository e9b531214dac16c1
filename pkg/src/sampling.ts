/** The options of a question, checked, and on their way to the worker. */
import type { SentSampling } from "./calls.js";
import { type Checks, copyOptions, json, number, strings } from "./options.js";
import type { SamplingOptions } from "./types.js";

/** The checks of sampling options. */
export const SAMPLING: Checks<SamplingOptions> = {
  maxTokens: number,
  temperature: number,
  topK: number,
  topP: number,
  minP: number,
  repetitionPenalty: number,
  seed: number,
  stop: strings,
  jsonSchema: json,
};

/** Returns what crosses the channel: a schema crosses as JSON. */
export function samplingOf(options: SamplingOptions): SentSampling {
  const { jsonSchema, ...sampling } = copyOptions(options, SAMPLING, "sampling");
  if (jsonSchema === undefined) return sampling;
  return { ...sampling, jsonSchema: JSON.stringify(jsonSchema) };
}
