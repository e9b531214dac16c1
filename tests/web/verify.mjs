/** The self-test of the WebAssembly module, run unchanged in Chromium and on Dawn in Node. */

/** @typedef {typeof import("./wasm/univi_web_verify.js")} VerifyModule */

/**
 * Every kind of fixtures, and how many comparisons there are at least: fewer means that files were
 * not found.
 */
export const KINDS = {
  sampling: 90,
  preprocess: 13,
  tokenizer: 40,
  prompt: 36,
  dpc_knn: 30,
  merge: 20,
  clip: 1,
  llama: 16,
  raw: 12,
  e2e: 60,
  shards: 2,
  models: 8,
};

/**
 * A real language model, which would take software GPUs several times as long as all else. Natively
 * it is held to all of its answers, by `tests/tests/parity.rs`; on Dawn to two; in Chromium to one
 * on each backend, by `package.test.mjs`.
 */
export const ELSEWHERE = ["smollm2"];

/**
 * A self-test with all fixtures in it.
 *
 * @param {VerifyModule} univi
 * @param {string} device
 * @param {{ paths: string[], read: (path: string) => Promise<Uint8Array>, model: () =>
 * Promise<Uint8Array> }} files
 */
export async function verifier(univi, device, files) {
  const verifier = await univi.Verifier.create(device);
  for (const path of files.paths) verifier.addFile(path, await files.read(path));
  verifier.addModel(await files.model());
  return verifier;
}

/**
 * Throws unless everything of a report passed, and enough was compared.
 *
 * @param {string} kind
 * @param {Awaited<ReturnType<import("./wasm/univi_web_verify.js").Verifier["check"]>>} report
 */
export function judge(kind, { cases, missing }) {
  const failures = cases.filter(({ passed }) => !passed);
  const lines = failures.map(
    ({ name, error, tolerance, detail }) =>
      `${name}: error ${error}, tolerance ${tolerance}. ${detail}`,
  );
  // The repository holds a choice of the models that are listed.
  lines.push(
    ...missing
      .filter((name) => !name.startsWith("models/"))
      .map((name) => `${name}: a file is missing`),
  );
  if (lines.length > 0) throw new Error(lines.join("\n"));
  const least = /** @type {Record<string, number>} */ (KINDS)[kind] ?? 1;
  if (cases.length < least)
    throw new Error(
      `${cases.length} comparisons, at least ${least} were expected: are the fixtures there?`,
    );
}
