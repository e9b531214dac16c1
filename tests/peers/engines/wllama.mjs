/** llama.cpp in WebAssembly, on the GGUF file itself. */
const DIST = "/npm/@wllama/wllama/esm/";
/** @type {any} */
let wllama;

export async function load() {
  const { Wllama } = await import(`${DIST}index.js`);
  const silent = () => {};
  const logger = { debug: silent, log: silent, warn: silent, error: silent };
  wllama = new Wllama({ default: `${DIST}wasm/wllama.wasm` }, { logger });
  wllama.setCompat?.(null);
  const file = await (await fetch("/gguf/SmolLM2-135M-Instruct.Q4_1.gguf")).blob();
  await wllama.loadModel([file], { n_ctx: 1024, n_threads: 1, n_gpu_layers: 0, n_batch: 512 });
}

export async function generate({ text }, count, onToken) {
  const stream = await wllama.createCompletion({
    prompt: text,
    max_tokens: count,
    temperature: 0,
    top_k: 1,
    ignore_eos: true,
    cache_prompt: false,
    stream: true,
  });
  for await (const chunk of stream) if (chunk.choices?.[0]?.text) onToken();
}
