/** UniVi, as a page uses it. */
import { Univi } from "/pkg/dist/index.js";

/** @type {Univi} */
let univi;
let asked = 0;

export async function load({ device, model }) {
  univi = await Univi.create({
    model:
      model === "vision"
        ? "/models/univi-vision/manifest.json"
        : "/gguf/SmolLM2-135M-Instruct.Q4_1.gguf",
    device: device === "wasm" ? "cpu" : "webgpu",
    cache: "none",
    contextLength: 1024,
  });
}

/** Resampling, the tower, merging, and two layers of a language model that hardly count. */
export async function encode(pixels, count) {
  for (let i = 0; i < count; i++) {
    const data = Uint8ClampedArray.from({ length: 4 * 224 * 224 }, (_, at) =>
      at % 4 === 3 ? 255 : 128 + 127 * (pixels[(at + asked) % pixels.length] ?? 0),
    );
    asked += 1;
    const session = univi.session();
    await session.append([new ImageData(data, 224, 224)]);
    session.dispose();
  }
}

export async function generate({ text }, count, onToken) {
  // Another beginning each time, of which no cache knows more than the template.
  const answer = univi.ask(`${++asked}. ${text}`, { temperature: 0, maxTokens: count });
  for await (const _ of answer) onToken();
  const { promptTokens, reusedTokens, completionTokens } = answer.usage;
  return { promptTokens: promptTokens - reusedTokens, completionTokens };
}
