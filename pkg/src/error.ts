const CODES = [
  "bad-file",
  "bad-metadata",
  "missing-tensor",
  "wrong-shape",
  "unsupported-type",
  "bad-tokenizer",
  "wrong-hash",
  "bad-image",
  "bad-video",
  "bad-request",
  "context-overflow",
  "no-gpu",
  "device-lost",
  "out-of-memory",
  "gpu",
  "io",
  "internal",
] as const;

/**
 * The stable word for what went wrong; `message` tells a person the rest.
 *
 * | code | what it means |
 * |---|---|
 * | `bad-file`, `bad-metadata`, `missing-tensor`, `wrong-shape`, `unsupported-type`,
 * `bad-tokenizer` | the model's files are not what they claim to be, or not a model that UniVi runs
 * |
 * | `wrong-hash` | a file is not the one that the manifest promises |
 * | `bad-image`, `bad-video` | a picture or clip can't be decoded or used |
 * | `bad-request` | the request can't be carried out as it was put |
 * | `context-overflow` | the conversation does not fit the context |
 * | `no-gpu` | there is no usable WebGPU here; `device: "cpu"` works everywhere |
 * | `device-lost` | the GPU went away; create the model again |
 * | `out-of-memory` | the device grants less than the model needs |
 * | `gpu` | the GPU refused a command |
 * | `io` | a server, file or network said no |
 * | `internal` | a fault of this library: please report it |
 */
export type UniviErrorCode = (typeof CODES)[number];

/**
 * The one class of everything that UniVi throws, less the `AbortError` of an aborted call. Its
 * message names what failed and what to do.
 *
 * @example
 * ```ts
 * try {
 *   text.textContent = await session.ask(question).text();
 * } catch (error) {
 *   if (!(error instanceof UniviError) || error.code !== "context-overflow") throw error;
 *   await session.rewind(0);
 * }
 * ```
 */
export class UniviError extends Error {
  override readonly name = "UniviError";

  constructor(
    /** What went wrong, for programs. */
    readonly code: UniviErrorCode,
    /** What went wrong, for people: the fact and the remedy. */
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The code of an error that comes from the WebAssembly module, which knows no classes of ours. */
export function codeOf(error: unknown): UniviErrorCode | undefined {
  const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
  return CODES.find((known) => known === code);
}
