/** A LLaMA of random weights as it is published, of any size: for what needs bytes and no sense. */
import { randomFillSync } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FIXTURES, OUTPUT } from "./fixtures.mjs";

/** Where the vocabulary is from. */
const SMALL = join(FIXTURES, "golden/e2e/checkpoint");

/**
 * Writes the checkpoint -> its folder, below `OUTPUT`.
 *
 * @param {string} name
 * @param {{ width: number, layers: number, ffn: number }} sizes
 */
export async function randomCheckpoint(name, { width, layers, ffn }) {
  const folder = join(OUTPUT, name);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const { vocab_size: tokens } = JSON.parse(await readFile(join(SMALL, "config.json"), "utf8"));
  const config = {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    vocab_size: tokens,
    hidden_size: width,
    intermediate_size: ffn,
    num_hidden_layers: layers,
    num_attention_heads: width / 64,
    num_key_value_heads: width / 64,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    hidden_act: "silu",
    tie_word_embeddings: false,
  };
  await writeFile(join(folder, "config.json"), JSON.stringify(config));
  await cp(join(SMALL, "tokenizer.model"), join(folder, "tokenizer.model"));

  /** @type {[string, number[]][]} */
  const tensors = [
    ["model.embed_tokens.weight", [tokens, width]],
    ...Array.from({ length: layers }, (_, layer) => {
      const of = `model.layers.${layer}`;
      return /** @type {[string, number[]][]} */ ([
        ...["q", "k", "v", "o"].map((part) => [
          `${of}.self_attn.${part}_proj.weight`,
          [width, width],
        ]),
        ...["gate", "up"].map((part) => [`${of}.mlp.${part}_proj.weight`, [ffn, width]]),
        [`${of}.mlp.down_proj.weight`, [width, ffn]],
        [`${of}.input_layernorm.weight`, [width]],
        [`${of}.post_attention_layernorm.weight`, [width]],
      ]);
    }).flat(),
    ["model.norm.weight", [width]],
    ["lm_head.weight", [tokens, width]],
  ];
  let end = 0;
  const header = tensors.map(([name, shape]) => {
    const start = end;
    end += 2 * shape.reduce((product, size) => product * size, 1);
    return [name, { dtype: "F16", shape, data_offsets: [start, end] }];
  });
  const head = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(head.length));
  const out = createWriteStream(join(folder, "model.safetensors"));
  out.write(length);
  out.write(head);
  const chunk = Buffer.alloc(1 << 20);
  for (let left = end; left > 0; left -= chunk.length) {
    randomFillSync(chunk);
    // Exponents of numbers below 1, so that none is infinite.
    for (let at = 1; at < chunk.length; at += 2) chunk[at] = (chunk[at] ?? 0) & 0xbb;
    if (!out.write(Buffer.from(chunk.subarray(0, Math.min(left, chunk.length)))))
      await once(out, "drain");
  }
  out.end();
  await once(out, "finish");
  return folder;
}
