/** Measures one engine in its page. */

/** Tokens of an answer. */
const ANSWER = 17;
const ROUNDS = 5;
const BUDGET_MS = 20_000;

/** @param {number[]} values */
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/**
 * Measures `once` after a time that is not counted -> medians of what it returns.
 *
 * @param {() => Promise<Record<string, number>>} once
 */
async function rounds(once) {
  const began = performance.now();
  const first = await once();
  const all = [];
  // What is so slow that a second time would take minutes is measured once, cold.
  if (performance.now() - began > 3 * BUDGET_MS) all.push({ ...first, cold: 1 });
  while (all.length === 0 || (all.length < ROUNDS && performance.now() - began < BUDGET_MS))
    all.push(await once());
  const names = Object.keys(all[0]);
  return Object.fromEntries(names.map((name) => [name, median(all.map((round) => round[name]))]));
}

globalThis.measure = async ({ engine, device, model, prompt, batch }) => {
  const { load, generate, encode } = await import(`./engines/${engine}.mjs`);
  await load({ device, model });
  if (model === "vision") {
    let seed = 1;
    const pixels = Float32Array.from({ length: batch * 3 * 224 * 224 }, () => {
      seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
      return seed / 2 ** 30 - 1;
    });
    return await rounds(async () => {
      const [began, cpu] = [performance.now(), await cpuSeconds()];
      await encode(pixels, batch);
      const seconds = (performance.now() - began) / 1000 / batch;
      return { seconds, cpuSeconds: ((await cpuSeconds()) - cpu) / batch };
    });
  }
  return await rounds(async () => {
    const began = performance.now();
    const cpuBegan = await cpuSeconds();
    const times = [];
    let cpuFirst;
    const told = await generate(prompt, ANSWER, () => {
      times.push(performance.now());
      if (times.length === 1) cpuFirst = cpuSeconds();
    });
    const cpuEnd = await cpuSeconds();
    // Pieces of text may be of several tokens, or of parts of one.
    const tokens = told?.completionTokens ?? times.length;
    const read = told?.promptTokens ?? prompt.ids.length;
    return {
      prefill: read / ((times[0] - began) / 1000),
      decode: (tokens - 1) / ((times.at(-1) - times[0]) / 1000),
      prefillCpuSeconds: ((await cpuFirst) - cpuBegan) / read,
      decodeCpuSeconds: (cpuEnd - (await cpuFirst)) / (tokens - 1),
    };
  });
};
globalThis.isReady = true;
