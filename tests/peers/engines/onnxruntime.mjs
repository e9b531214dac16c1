/** onnxruntime-web by itself: a language model whose cache stays on the device, and a CLIP. */
const DIST = "/npm/onnxruntime-web/dist/";
/** @type {any} */
let ort;
/** @type {any} */
let session;

export async function load({ device, model }) {
  const file = device === "wasm" ? "ort.wasm.bundle.min.mjs" : "ort.webgpu.bundle.min.mjs";
  ort = await import(`${DIST}${file}`);
  ort.env.wasm.wasmPaths = DIST;
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const path =
    model === "vision" ? "/models/vision/model.onnx" : "/models/language/onnx/model.onnx";
  session = await ort.InferenceSession.create(path, {
    executionProviders: [device],
    externalData: [{ path: `${path.split("/").at(-1)}_data`, data: `${path}_data` }],
    graphOptimizationLevel: "all",
  });
}

export async function encode(pixels, count) {
  const input = new ort.Tensor("float32", pixels, [count, 3, 224, 224]);
  const { last_hidden_state: rows } = await session.run({ pixel_values: input });
  await rows.getData();
  rows.dispose();
}

export async function generate({ ids }, count, onToken) {
  const past = session.inputNames.filter((name) => name.startsWith("past"));
  const none = () => new ort.Tensor("float32", new Float32Array(0), [1, 3, 0, 64]);
  let caches = Object.fromEntries(past.map((name) => [name, none()]));
  const list = (values) =>
    new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
  let next = ids;
  for (let said = 0; said < count; said++) {
    const mask = list(new Array(ids.length + said).fill(1));
    const out = await session.run({ input_ids: list(next), attention_mask: mask, ...caches });
    const logits = out.logits.data;
    let best = 0;
    for (let id = 1; id < logits.length; id++) if (logits[id] > logits[best]) best = id;
    onToken();
    for (const tensor of Object.values(caches)) tensor.dispose();
    caches = Object.fromEntries(
      past.map((name) => [name, out[name.replace("past_key_values", "present")]]),
    );
    next = [best];
  }
  for (const tensor of Object.values(caches)) tensor.dispose();
}
