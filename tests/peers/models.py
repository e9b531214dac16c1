"""Writes the models that UniVi and its peers are measured with, from nothing but a GGUF file.

    python3 models.py SmolLM2-135M-Instruct.Q4_1.gguf SMALL FOLDER

SMALL is a published checkpoint of a small language model, for its vocabulary.

FOLDER/language/   SmolLM2 as transformers.js and onnxruntime-web read it: f32, and 4 bits a weight
FOLDER/vision/     a CLIP ViT-B/16 of random weights as ONNX, f32
FOLDER/checkpoint/ one of the same shapes as it is published, before a language model of two layers
FOLDER/prompts.json  prompts of 8, 32 and 256 tokens

Graphs are those that exporters write after fusing: what runs fastest on onnxruntime.
"""

import json
import os
import struct
import sys

import numpy as np
import onnx
from gguf import GGUFReader
from gguf.quants import dequantize
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

CONTRIB = "com.microsoft"
EXTERNAL_FROM = 1024

WORDS = (
    "The harbour master counted the boats each morning before the bell of the fish market rang. "
    "There were nine with red sails, four with white ones, and a ferry that nobody had painted "
    "for years. When a storm came up from the west he hung two lanterns on the pole and walked "
    "along the wall to see that every rope held. His daughter carried the second lamp. She liked "
    "the smell of tar, the noise of the chains and the way the water climbed the steps, one after "
    "the other, until only the last of them was dry. On such evenings they talked about the "
    "countries on the other side of the bay, where oranges grew beside the road and trains ran "
    "through the mountains. He had been there once, as a young man, with a cargo of salt, and had "
    "brought back a clock that was always late. She asked him what people there believed about "
    "the sea, and he said that they believed what everybody believes: that it gives and takes, "
    "and keeps its own accounts. In the morning the wind had turned. Eight boats with red sails "
    "were at their places, and the ninth came in at noon, slowly, with a torn sail and a full "
    "hold, as if nothing in the world had happened. The market was loud for the rest of the day. "
    "In the evening she wrote all of it down."
)


class Graph:
    """An ONNX graph; what is large of its weights goes to a file beside it."""

    def __init__(self, path):
        self.path = path
        self.nodes, self.weights = [], []
        self.made = 0
        self.data = open(path + "_data", "wb")

    def fresh(self, kind):
        self.made += 1
        return f"{kind}.{self.made}"

    def add(self, kind, inputs, outputs=None, domain="", **attributes):
        outputs = outputs or [self.fresh(kind)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def weight(self, values):
        values = np.ascontiguousarray(values)
        name = self.fresh("weight")
        if values.nbytes < EXTERNAL_FROM:
            self.weights.append(numpy_helper.from_array(values, name))
            return name
        self.data.write(bytes(-self.data.tell() % 4096))
        tensor = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(values.dtype),
            dims=values.shape,
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": os.path.basename(self.data.name), "offset": self.data.tell()}
        for key, value in {**place, "length": values.nbytes}.items():
            tensor.external_data.add(key=key, value=str(value))
        self.data.write(values.tobytes())
        self.weights.append(tensor)
        return name

    def write(self, inputs, outputs):
        of = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes, "model", [of(*i) for i in inputs], [of(*o) for o in outputs], self.weights
        )
        versions = [helper.make_opsetid("", 17), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=8)
        self.data.close()
        with open(self.path, "wb") as file:
            file.write(model.SerializeToString())


def four_bits(matrix, block=32):
    """Blocks of `matrix [n, k]` as MatMulNBits reads them: nibbles less 8, times a scale."""
    n, k = matrix.shape
    blocks = matrix.reshape(n, k // block, block)
    farthest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    scales = farthest / -8
    whole = np.divide(blocks, scales, out=np.zeros_like(blocks), where=scales != 0)
    nibbles = (np.clip(np.rint(whole), -8, 7) + 8).astype(np.uint8)
    return nibbles[..., 0::2] | nibbles[..., 1::2] << 4, scales[..., 0].astype(np.float32)


def language_model(meta, tensors, path, is_quantized):
    """Writes a LLaMA with packed queries, keys and values, and logits of the last token alone."""
    graph = Graph(path)
    width, layers = meta["llama.embedding_length"], meta["llama.block_count"]
    heads, kv_heads = meta["llama.attention.head_count"], meta["llama.attention.head_count_kv"]
    head, eps = width // heads, meta["llama.attention.layer_norm_rms_epsilon"]

    def product(x, matrix):
        if not is_quantized:
            return graph.add("MatMul", [x, graph.weight(matrix.T)])
        n, k = matrix.shape
        nibbles, scales = (graph.weight(values) for values in four_bits(matrix))
        sizes = {"K": k, "N": n, "bits": 4, "block_size": 32, "accuracy_level": 4}
        return graph.add("MatMulNBits", [x, nibbles, scales], domain=CONTRIB, **sizes)

    def in_halves(matrix, count):
        """GGUF has the two numbers of a rotation beside each other; here are halves of heads."""
        rows, cols = matrix.shape
        pairs = matrix.reshape(count, rows // count // 2, 2, cols)
        return pairs.swapaxes(1, 2).reshape(rows, cols)

    def normed_sum(x, y, name, is_last=False):
        total = "" if is_last else graph.fresh("sum")
        outputs = [graph.fresh("norm")] + ([] if is_last else ["", "", total])
        inputs = [x, y, graph.weight(tensors[name])]
        kind = "SkipSimplifiedLayerNormalization"
        return graph.add(kind, inputs, outputs, CONTRIB, epsilon=eps), total

    angles = np.outer(
        np.arange(2048), meta["llama.rope.freq_base"] ** -(np.arange(0, head, 2) / head)
    ).astype(np.float32)
    cosines, sines = graph.weight(np.cos(angles)), graph.weight(np.sin(angles))
    one = graph.weight(np.array([1]))
    seen = graph.add("ReduceSum", ["attention_mask", one], keepdims=1)
    lengths = graph.add("Cast", [graph.add("Sub", [seen, one])], to=TensorProto.INT32)
    shape = graph.add("Shape", ["attention_mask"])
    total = graph.add("Gather", [shape, graph.weight(np.array(1))])
    total = graph.add("Cast", [total], to=TensorProto.INT32)

    x = graph.add("Gather", [graph.weight(tensors["token_embd.weight"]), "input_ids"])
    first = graph.weight(tensors["blk.0.attn_norm.weight"])
    h = graph.add("SimplifiedLayerNormalization", [x, first], axis=-1, epsilon=eps, stash_type=1)
    for layer in range(layers):
        of = lambda part: tensors[f"blk.{layer}.{part}.weight"]
        q, k = in_halves(of("attn_q"), heads), in_halves(of("attn_k"), kv_heads)
        qkv = product(h, np.concatenate([q, k, of("attn_v")]))
        caches = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        presents = [f"present.{layer}.{part}" for part in ("key", "value")]
        attended = graph.add(
            "GroupQueryAttention",
            [qkv, "", "", *caches, lengths, total, cosines, sines],
            [graph.fresh("attention"), *presents],
            CONTRIB,
            num_heads=heads,
            kv_num_heads=kv_heads,
            do_rotary=1,
            rotary_interleaved=0,
            scale=head**-0.5,
        )
        h, x = normed_sum(x, product(attended, of("attn_output")), f"blk.{layer}.ffn_norm.weight")
        gate, up = product(h, of("ffn_gate")), product(h, of("ffn_up"))
        silu = graph.add("Mul", [gate, graph.add("Sigmoid", [gate])])
        down = product(graph.add("Mul", [silu, up]), of("ffn_down"))
        is_last = layer + 1 == layers
        name = "output_norm.weight" if is_last else f"blk.{layer + 1}.attn_norm.weight"
        h, x = normed_sum(x, down, name, is_last)
    ends = [graph.weight(np.array([end])) for end in (-1, 2**31 - 1, 1)]
    product(graph.add("Slice", [h, *ends]), tensors["token_embd.weight"])
    graph.nodes[-1].output[0] = "logits"

    # transformers.js makes empty caches by the names of these sizes.
    inputs = [
        ("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"]),
        ("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"]),
    ]
    outputs = [("logits", TensorProto.FLOAT, ["batch_size", 1, meta["llama.vocab_size"]])]
    for layer in range(layers):
        for part in ("key", "value"):
            shape = ["batch_size", kv_heads, "past_sequence_length", head]
            inputs.append((f"past_key_values.{layer}.{part}", TensorProto.FLOAT, shape))
            shape = ["batch_size", kv_heads, "total_sequence_length", head]
            outputs.append((f"present.{layer}.{part}", TensorProto.FLOAT, shape))
    graph.write(inputs, outputs)


def tokenizer(meta, folder):
    """Writes what transformers.js wants beside the graphs."""
    tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    control = [
        {"id": id, "content": tokens[id], "special": True, "normalized": False}
        | {"single_word": False, "lstrip": False, "rstrip": False}
        for id, kind in enumerate(types)
        if kind == 3
    ]
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    splits = [{"type": "Digits", "individual_digits": True}, {**bytes_of, "use_regex": True}]
    vocabulary = {token: id for id, token in enumerate(tokens)}
    merges = meta["tokenizer.ggml.merges"]
    write_json(
        f"{folder}/tokenizer.json",
        {
            "version": "1.0",
            "added_tokens": control,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": splits},
            "decoder": {**bytes_of, "use_regex": True},
            "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
        },
    )
    write_json(f"{folder}/tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"})
    end = meta["tokenizer.ggml.eos_token_id"]
    heads = meta["llama.attention.head_count"]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": meta["llama.embedding_length"],
        "num_hidden_layers": meta["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": meta["llama.attention.head_count_kv"],
        "head_dim": meta["llama.embedding_length"] // heads,
        "vocab_size": meta["llama.vocab_size"],
        "eos_token_id": end,
        "transformers.js_config": {"use_external_data_format": True},
    }
    write_json(f"{folder}/config.json", config)
    write_json(f"{folder}/generation_config.json", {"eos_token_id": end})


def vision_model(path):
    """Writes a CLIP ViT-B/16 of random weights."""
    graph, random = Graph(path), np.random.default_rng(1)
    width, inner, heads, layers, patch = 768, 3072, 12, 12, 16
    tokens = (224 // patch) ** 2 + 1
    noise = lambda *shape: graph.weight(random.standard_normal(shape, np.float32) * 0.02)
    ones = lambda: graph.weight(np.ones(width, np.float32))
    zeros = lambda: graph.weight(np.zeros(width, np.float32))
    shape_of = lambda *sizes: graph.weight(np.array(sizes))

    def linear(x, rows, cols):
        return graph.add("Add", [graph.add("MatMul", [x, noise(rows, cols)]), noise(cols)])

    def norm(x):
        return graph.add("LayerNormalization", [x, ones(), zeros()], axis=-1, epsilon=1e-5)

    def normed_sum(x, y):
        names = [graph.fresh("norm"), "", "", graph.fresh("sum")]
        kind = "SkipLayerNormalization"
        graph.add(kind, [x, y, ones(), zeros()], names, CONTRIB, epsilon=1e-5)
        return names[0], names[3]

    sizes = {"kernel_shape": [patch, patch], "strides": [patch, patch]}
    patches = graph.add("Conv", ["pixel_values", noise(width, 3, patch, patch)], **sizes)
    patches = graph.add("Reshape", [patches, shape_of(0, width, -1)])
    patches = graph.add("Transpose", [patches], perm=[0, 2, 1])
    batch = graph.add("Gather", [graph.add("Shape", ["pixel_values"]), shape_of(0)], axis=0)
    shape = graph.add("Concat", [batch, shape_of(1, width)], axis=0)
    begin = graph.add("Expand", [noise(1, 1, width), shape])
    x = graph.add("Concat", [begin, patches], axis=1)
    x = norm(graph.add("Add", [x, noise(1, tokens, width)]))
    h = norm(x)
    for layer in range(layers):
        qkv = [linear(h, width, width) for _ in range(3)]
        attended = graph.add("MultiHeadAttention", qkv, domain=CONTRIB, num_heads=heads)
        h, x = normed_sum(linear(attended, width, width), x)
        y = graph.add("QuickGelu", [linear(h, width, inner)], domain=CONTRIB, alpha=1.702)
        y = linear(y, inner, width)
        if layer + 1 < layers:
            h, x = normed_sum(y, x)
    graph.add("Add", [y, x], ["last_hidden_state"])
    graph.write(
        [("pixel_values", TensorProto.FLOAT, ["batch_size", 3, 224, 224])],
        [("last_hidden_state", TensorProto.FLOAT, ["batch_size", tokens, width])],
    )


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False)


def write_safetensors(path, tensors):
    header, end = {}, 0
    for name, values in tensors.items():
        offsets = [end, end + values.nbytes]
        header[name] = {"dtype": "F16", "shape": values.shape, "data_offsets": offsets}
        end += values.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(values.tobytes())


def checkpoint(small, folder):
    """Writes the same tower for UniVi, before a language model with the vocabulary of `small`."""
    random = np.random.default_rng(2)
    spread = lambda rows, *cols: (
        random.standard_normal((rows, *cols), np.float32) / np.sqrt(np.prod(cols or [50]))
    ).astype(np.float16)
    ones = lambda size: np.ones(size, np.float16)
    width, inner, patch = 768, 3072, 16
    tower, of = {}, "vision_model."
    tower[of + "embeddings.class_embedding"] = spread(width)
    tower[of + "embeddings.patch_embedding.weight"] = spread(width, 3, patch, patch)
    tower[of + "embeddings.position_embedding.weight"] = spread(197, width)

    def norm(name, size):
        return {f"{name}.weight": ones(size), f"{name}.bias": spread(size)}

    def linear(name, rows, cols):
        return {f"{name}.weight": spread(rows, cols), f"{name}.bias": spread(rows)}

    tower |= norm(of + "pre_layrnorm", width) | norm(of + "post_layernorm", width)
    for layer in range(12):
        at = f"{of}encoder.layers.{layer}."
        tower |= norm(at + "layer_norm1", width) | norm(at + "layer_norm2", width)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tower |= linear(f"{at}self_attn.{part}", width, width)
        tower |= linear(at + "mlp.fc1", inner, width) | linear(at + "mlp.fc2", width, inner)
    for part in ("tower", "model"):
        os.makedirs(f"{folder}/{part}", exist_ok=True)
    write_safetensors(f"{folder}/tower/model.safetensors", tower)
    shape = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": 12}
    shape |= {"num_attention_heads": 12, "patch_size": patch, "image_size": 224}
    kind = {"architectures": ["CLIPVisionModel"], "model_type": "clip_vision_model"}
    more = {"num_channels": 3, "layer_norm_eps": 1e-5, "hidden_act": "quick_gelu"}
    write_json(f"{folder}/tower/config.json", kind | shape | more)
    pixels = {"do_resize": True, "size": 224, "do_center_crop": True, "crop_size": 224}
    pixels |= {"do_normalize": True, "resample": 3}
    pixels |= {"image_mean": [0.48145466, 0.4578275, 0.40821073]}
    pixels |= {"image_std": [0.26862954, 0.26130258, 0.27577711]}
    write_json(f"{folder}/tower/preprocessor_config.json", pixels)

    with open(f"{small}/config.json", encoding="utf-8") as file:
        config = json.load(file)
    names = {"mm_hidden_size": width, "mm_vision_tower": "openai/clip-vit-base-patch16"}
    write_json(f"{folder}/model/config.json", config | names)
    hidden, rows = config["hidden_size"], config["vocab_size"]
    ffn = config["intermediate_size"]
    model = {"model.embed_tokens.weight": spread(rows, hidden)}
    model |= {"lm_head.weight": spread(rows, hidden), "model.norm.weight": ones(hidden)}
    model |= linear("model.mm_projector", hidden, width)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for part in ("q", "k", "v", "o"):
            model[f"{at}self_attn.{part}_proj.weight"] = spread(hidden, hidden)
        for part, shape in {"gate": (ffn, hidden), "up": (ffn, hidden), "down": (hidden, ffn)}.items():
            model[f"{at}mlp.{part}_proj.weight"] = spread(*shape)
        for part in ("input_layernorm", "post_attention_layernorm"):
            model[f"{at}{part}.weight"] = ones(hidden)
    write_safetensors(f"{folder}/model/model.safetensors", model)
    for name in os.listdir(small):
        if name.startswith(("tokenizer", "special", "generation")):
            with open(f"{small}/{name}", "rb") as source:
                with open(f"{folder}/model/{name}", "wb") as copy:
                    copy.write(source.read())


def main():
    gguf, small, folder = sys.argv[1:]
    language = f"{folder}/language"
    for part in ("language/onnx", "vision", "checkpoint"):
        os.makedirs(f"{folder}/{part}", exist_ok=True)
    reader = GGUFReader(gguf)
    meta = {key: field.contents() for key, field in reader.fields.items()}
    tokenizer(meta, language)
    tokens = Tokenizer.from_file(f"{language}/tokenizer.json")
    ids = tokens.encode(WORDS).ids
    prompts = {n: {"ids": ids[:n], "text": tokens.decode(ids[:n])} for n in (8, 32, 256)}
    write_json(f"{folder}/prompts.json", prompts)
    tensors = {
        tensor.name: dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for tensor in reader.tensors
    }
    language_model(meta, tensors, f"{language}/onnx/model.onnx", False)
    language_model(meta, tensors, f"{language}/onnx/model_q4.onnx", True)
    vision_model(f"{folder}/vision/model.onnx")
    checkpoint(small, f"{folder}/checkpoint")


main()
