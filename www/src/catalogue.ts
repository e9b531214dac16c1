/** The checkpoints that were published, and what they need of a device. */
import catalogue from "../../crates/cli/catalogue.json";

/** A checkpoint on the Hub. */
export interface Published {
  readonly id: string;
  readonly name: string;
  readonly repository: string;
  readonly license: string;
  /** What it is good at, in English. */
  readonly goodAt: string;
  /** The prompt template that it was tuned with, where its files don't say. */
  readonly template?: string;
  /** Bytes to fetch. */
  readonly fetchBytes: number;
  /** What becomes of it, by quantization, the smallest first. */
  readonly choices: readonly Choice[];
}

/** A quantization of a checkpoint. */
export interface Choice {
  readonly quantization: string;
  /** Bytes to keep. */
  readonly bytes: number;
  /** Bytes of a device's memory, with a conversation, by the type of its cache. */
  readonly memoryBytes: Readonly<Record<string, number>>;
}

/** Tokens of a conversation; a picture is 112. As `univi models` counts. */
const CONTEXT = 2048;

/** Bytes of a number in a conversation's cache. */
const CACHE_BYTES: Readonly<Record<string, number>> = { f32: 4, q8: 36 / 32 };

const MEGABYTE = 1e6;

/** Returns what was published, with those of the quantizations that this page makes. */
export function published(quantizations: readonly string[]): Published[] {
  return catalogue.models.map((model) => {
    const files = Object.entries<number>(model.files_mb);
    const made = files.filter(([name]) => quantizations.includes(name)).sort((a, b) => a[1] - b[1]);
    const choices = made.map(([quantization, megabytes]) => ({
      quantization,
      bytes: megabytes * MEGABYTE,
      memoryBytes: Object.fromEntries(
        Object.entries(CACHE_BYTES).map(([cache, bytes]) => [
          cache,
          megabytes * MEGABYTE + CONTEXT * model.kv_numbers_per_token * bytes,
        ]),
      ),
    }));
    return {
      id: model.id,
      name: model.name,
      repository: model.repository,
      license: model.license,
      goodAt: `${model.good_at[0]?.toUpperCase()}${model.good_at.slice(1)}.`,
      ...("template" in model ? { template: model.template as string } : {}),
      fetchBytes: model.fetch_mb * MEGABYTE,
      choices,
    };
  });
}

/** Returns the largest that a device of so many bytes holds; undefined where none fits. */
export function largestWithin(
  { choices }: Published,
  cache: string,
  bytes: number,
): Choice | undefined {
  return choices.findLast(({ memoryBytes }) => (memoryBytes[cache] ?? 0) <= bytes);
}
