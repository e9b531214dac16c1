/** transformers.js, as its own documentation generates text. */
const DIST = "/npm/@huggingface/transformers/";
/** @type {any} */
let library;
/** @type {any} */
let model;

export async function load({ device }) {
  library = await import(`${DIST}dist/transformers.min.js`);
  const { env } = library;
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = "/models/";
  env.useBrowserCache = false;
  env.useWasmCache = false;
  const runtime = "/npm/@huggingface/transformers/node_modules/onnxruntime-web/dist/";
  const kind = device === "webgpu" ? ".asyncify" : "";
  env.backends.onnx.wasm.wasmPaths = {
    mjs: `${runtime}ort-wasm-simd-threaded${kind}.mjs`,
    wasm: `${runtime}ort-wasm-simd-threaded${kind}.wasm`,
  };
  env.backends.onnx.wasm.numThreads = 1;
  model = await library.AutoModelForCausalLM.from_pretrained("language", { dtype: "q4", device });
}

export async function generate({ ids }, count, onToken) {
  const list = (values) =>
    new library.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
  class Streamer extends library.BaseStreamer {
    isPrompt = true;
    put() {
      if (!this.isPrompt) onToken();
      this.isPrompt = false;
    }
    end() {}
  }
  await model.generate({
    input_ids: list(ids),
    attention_mask: list(new Array(ids.length).fill(1)),
    max_new_tokens: count,
    min_new_tokens: count,
    do_sample: false,
    streamer: new Streamer(),
  });
}
