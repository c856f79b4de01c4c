#!/usr/bin/env python3
"""Independent reference of the engine: GGUF file, tokenizer, forward pass and greedy generation in numpy.

Shares no code with the C++ engine nor with the training script. Float32 throughout; the products of 8-bit activations
with ternary weights are exact. Handles architecture `bitnet-b1.58` with I2_S (x86, 128 weights), F16 and F32 tensors.

  reference_forward.py MODEL --tokens 2045,17,300 --logits logits.npy   logits [positions, vocabulary]
  reference_forward.py MODEL --text "Once upon a time" --generate 40    greedy continuation (BOS is put in front)
  reference_forward.py MODEL --tokenize "Hello, world"                  token ids, without BOS
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import unicodedata
from pathlib import Path

import numpy as np

F32, F16, I2_S = 0, 1, 36
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9


class Gguf:
    """Metadata and tensors of a GGUF version 3 file. Tensor shapes are [rows, columns]."""

    def __init__(self, path: Path) -> None:
        self._data, self._at = path.read_bytes(), 0
        if self._take(4) != b"GGUF" or self._scalar("<I") != 3:
            raise ValueError(f"{path}: not a GGUF version 3 file")
        tensor_count, key_count = self._scalar("<Q"), self._scalar("<Q")
        self.keys = {self._string(): self._value(self._scalar("<I")) for _ in range(key_count)}
        self._infos = {}
        for _ in range(tensor_count):
            name = self._string()
            shape = tuple(reversed([self._scalar("<Q") for _ in range(self._scalar("<I"))]))
            self._infos[name] = shape, self._scalar("<I"), self._scalar("<Q")
        alignment = self.keys.get("general.alignment", 32)
        self._base = (self._at + alignment - 1) // alignment * alignment

    def _take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size:self._at]

    def _scalar(self, layout: str):
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _string(self) -> str:
        return self._take(self._scalar("<Q")).decode("utf-8")

    def _value(self, kind: int):
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            item, count = self._scalar("<I"), self._scalar("<Q")
            return [self._value(item) for _ in range(count)]
        return self._scalar(SCALARS[kind])

    def floats(self, name: str) -> np.ndarray:
        """An F32 or F16 tensor as float32."""
        shape, kind, offset = self._infos[name]
        layout = {F32: "<f4", F16: "<f2"}[kind]
        flat = np.frombuffer(self._data, layout, int(np.prod(shape)), self._base + offset)
        return flat.astype(np.float32).reshape(shape)

    def ternary(self, name: str) -> tuple[np.ndarray, np.float32]:
        """An I2_S tensor as float32 codes in {-1, 0, 1} and its scale."""
        shape, kind, offset = self._infos[name]
        if kind != I2_S:
            raise ValueError(f"{name}: expected I2_S, found type {kind}")
        size, start = int(np.prod(shape)), self._base + offset
        packed = np.frombuffer(self._data, np.uint8, size // 4, start).reshape(-1, 1, 32)
        codes = packed >> np.array([6, 4, 2, 0], np.uint8).reshape(1, 4, 1) & 3
        if codes.max() > 2:
            raise ValueError(f"{name}: invalid ternary code")
        scale = np.frombuffer(self._data, "<f4", 1, start + size // 4)[0]
        return codes.astype(np.float32).reshape(shape) - np.float32(1), scale


WHITE_SPACE = frozenset("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B))))
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


def _letter(c: str) -> bool:
    return unicodedata.category(c)[0] == "L"


def _number(c: str) -> bool:
    return unicodedata.category(c)[0] == "N"


def _symbol(c: str) -> bool:
    return c not in WHITE_SPACE and not _letter(c) and not _number(c)


def _span(text: str, start: int, accept) -> int:
    """End of the run of accepted characters from `start`."""
    while start < len(text) and accept(text[start]):
        start += 1
    return start


def _next_piece(text: str, i: int) -> int:
    """End of the piece that starts at i. The alternatives of the llama-bpe expression, in its order:

    (?i:'s|'t|'re|'ve|'m|'ll|'d) | [^\\r\\n\\p{L}\\p{N}]?\\p{L}+ | \\p{N}{1,3} | ?[^\\s\\p{L}\\p{N}]+[\\r\\n]* |
    \\s*[\\r\\n]+ | \\s+(?!\\S) | \\s+
    """
    for contraction in CONTRACTIONS:
        if text[i:i + len(contraction)].casefold() == contraction:
            return i + len(contraction)
    skip = i + (text[i] not in "\r\n" and not _letter(text[i]) and not _number(text[i]))
    if (end := _span(text, skip, _letter)) > skip:
        return end
    if (end := _span(text[:i + 3], i, _number)) > i:
        return end
    skip = i + (text[i] == " ")
    if (end := _span(text, skip, _symbol)) > skip:
        return _span(text, end, lambda c: c in "\r\n")
    end = _span(text, i, lambda c: c in WHITE_SPACE)
    newline = max(text.rfind("\n", i, end), text.rfind("\r", i, end))
    if newline >= 0:
        return newline + 1
    return end - 1 if end < len(text) and end - i > 1 else end


def pre_tokenize(text: str) -> list[str]:
    pieces, i = [], 0
    while i < len(text):
        end = _next_piece(text, i)
        pieces.append(text[i:end])
        i = end
    return pieces


def byte_alphabet() -> dict[int, str]:
    """GPT-2's printable character for each byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}


class Tokenizer:
    """Byte-level BPE from the keys of a GGUF file."""

    def __init__(self, keys: dict) -> None:
        tokens, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
        control = 3
        self.bos, self.eos = keys["tokenizer.ggml.bos_token_id"], keys["tokenizer.ggml.eos_token_id"]
        self.special = {token: i for i, token in enumerate(tokens) if types[i] == control}
        self.stop = {self.eos, self.special.get("<|eot_id|>", self.eos)}
        self._tokens, self._ids = tokens, {token: i for i, token in enumerate(tokens)}
        self._ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(keys["tokenizer.ggml.merges"])}
        self._alphabet = byte_alphabet()
        self._bytes = {c: byte for byte, c in self._alphabet.items()}

    def encode(self, text: str, parse_special: bool = False) -> list[int]:
        """Ids of the text, without BOS. Names of special tokens are plain text unless `parse_special`."""
        if parse_special:
            found = [(at, token) for token in self.special if (at := text.find(token)) >= 0]
            if found:
                at, token = min(found)
                return self.encode(text[:at]) + [self.special[token]] + self.encode(text[at + len(token):], True)
        return [i for piece in pre_tokenize(text) for i in self._merge(piece)]

    def _merge(self, piece: str) -> list[int]:
        symbols = [self._alphabet[byte] for byte in piece.encode("utf-8")]
        if (whole := "".join(symbols)) in self._ids:
            return [self._ids[whole]]
        while len(symbols) > 1:
            rank, i = min((self._ranks.get(pair, len(self._ranks)), i) for i, pair in enumerate(zip(symbols, symbols[1:])))
            if rank == len(self._ranks):
                break
            symbols[i:i + 2] = [symbols[i] + symbols[i + 1]]
        return [self._ids[symbol] for symbol in symbols]

    def decode(self, ids: list[int]) -> str:
        """Text of the ids; special tokens vanish, broken UTF-8 becomes U+FFFD."""
        text = "".join(self._tokens[i] for i in ids if self._tokens[i] not in self.special)
        return bytes(self._bytes[c] for c in text).decode("utf-8", "replace")


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Finite floats rounded to nearest even bfloat16, as float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) & np.uint32(0xFFFF0000)).view(np.float32)


def bit_linear(x: np.ndarray, weight: tuple[np.ndarray, np.float32]) -> np.ndarray:
    """x [positions, columns] by a ternary matrix [rows, columns]; activations are rounded to 8 bits per position."""
    codes, weight_scale = weight
    scale = np.float32(127) / np.maximum(np.abs(x).max(axis=1, keepdims=True), np.float32(1e-5))
    quantised = np.clip(np.rint(x * scale), -128, 127)  # rint rounds half to even
    return quantised @ codes.T / scale * weight_scale   # integers below 2^24: the float32 product is exact


class Model:
    """The forward pass with a KV cache. `positions` is how many tokens the cache holds."""

    NORMS = ("attn_norm", "attn_sub_norm", "ffn_norm", "ffn_sub_norm")
    MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")

    def __init__(self, file: Gguf) -> None:
        arch = file.keys["general.architecture"]
        if arch != "bitnet-b1.58":
            raise ValueError(f"unsupported architecture {arch}")
        key = {name.removeprefix(arch + "."): value for name, value in file.keys.items()}
        self.heads, self.kv_heads = key["attention.head_count"], key["attention.head_count_kv"]
        self.epsilon, self.head_dim = np.float32(key["attention.layer_norm_rms_epsilon"]), key["rope.dimension_count"]
        half = np.arange(0, self.head_dim, 2, dtype=np.float32) / np.float32(self.head_dim)
        self.frequencies = np.float32(key["rope.freq_base"]) ** -half
        self.embedding, self.output_norm = file.floats("token_embd.weight"), file.floats("output_norm.weight")
        self.blocks = [{name: file.floats(f"blk.{i}.{name}.weight") for name in self.NORMS}
                       | {name: file.ternary(f"blk.{i}.{name}.weight") for name in self.MATRICES} for i in range(key["block_count"])]
        self.reset()

    def reset(self) -> None:
        empty = np.zeros((0, self.kv_heads, self.head_dim), np.float32)
        self.positions, self.cache = 0, [(empty, empty) for _ in self.blocks]

    def _norm(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.epsilon) * weight

    def _rotate(self, x: np.ndarray) -> np.ndarray:
        """Half-split (NEOX) rotary embedding of [positions, heads, head_dim] that follow the cached positions."""
        at = np.arange(self.positions, self.positions + len(x), dtype=np.float32)
        angles = at[:, None, None] * self.frequencies
        cosine, sine = np.cos(angles), np.sin(angles)
        low, high = np.split(x, 2, axis=-1)
        return np.concatenate((low * cosine - high * sine, high * cosine + low * sine), axis=-1)

    def _attention(self, block: dict, index: int, h: np.ndarray) -> np.ndarray:
        count = len(h)
        q = self._rotate(bit_linear(h, block["attn_q"]).reshape(count, self.heads, self.head_dim))
        k = self._rotate(bit_linear(h, block["attn_k"]).reshape(count, self.kv_heads, self.head_dim))
        v = bit_linear(h, block["attn_v"]).reshape(count, self.kv_heads, self.head_dim)
        # The engine's attention multiplies bfloat16: scaled queries, keys, values and weights are rounded.
        q, k, v = (to_bfloat16(x) for x in (q / np.float32(np.sqrt(self.head_dim)), k, v))
        k, v = (np.concatenate(pair) for pair in zip(self.cache[index], (k, v)))
        self.cache[index] = k, v
        k, v = (np.repeat(t, self.heads // self.kv_heads, axis=1) for t in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k)
        hidden = np.arange(len(k))[None, :] > self.positions + np.arange(count)[:, None]
        scores = np.where(hidden, np.float32(-np.inf), scores)
        weights = to_bfloat16(np.exp(scores - scores.max(axis=-1, keepdims=True)))
        weights /= weights.sum(axis=-1, keepdims=True)
        return np.einsum("hqk,khd->qhd", weights, v).reshape(count, -1)

    def forward(self, tokens: list[int]) -> np.ndarray:
        """Logits [len(tokens), vocabulary] of tokens that follow those already in the cache."""
        x = self.embedding[np.asarray(tokens)]
        for index, block in enumerate(self.blocks):
            mixed = self._attention(block, index, self._norm(x, block["attn_norm"]))
            x = x + bit_linear(self._norm(mixed, block["attn_sub_norm"]), block["attn_output"])
            h = self._norm(x, block["ffn_norm"])
            gated = np.square(np.maximum(bit_linear(h, block["ffn_gate"]), np.float32(0))) * bit_linear(h, block["ffn_up"])
            x = x + bit_linear(self._norm(gated, block["ffn_sub_norm"]), block["ffn_down"])
        self.positions += len(tokens)
        return self._norm(x, self.output_norm) @ self.embedding.T

    def generate(self, tokens: list[int], count: int, stop: set[int]) -> list[int]:
        """Greedy continuation of at most `count` tokens; a stop token ends it and is not part of it."""
        self.reset()
        generated: list[int] = []
        logits = self.forward(tokens)
        while len(generated) < count:
            token = int(logits[-1].argmax())
            if token in stop:
                break
            generated.append(token)
            logits = self.forward([token])
        return generated


def save_logits(path: Path, logits: np.ndarray) -> None:
    if path.suffix == ".npy":
        np.save(path, logits)
    else:
        path.write_text(json.dumps(logits.tolist()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--tokens", help="comma-separated token ids, taken as they are")
    prompt.add_argument("--text", help="prompt; BOS is put in front, names of special tokens are parsed")
    prompt.add_argument("--chat", help="one user message, rendered as a chat prompt")
    prompt.add_argument("--tokenize", help="print the ids of this text and stop")
    parser.add_argument("--parse-special", action="store_true", help="with --tokenize: parse names of special tokens")
    parser.add_argument("--generate", type=int, default=0, metavar="N", help="print N greedy tokens as JSON")
    parser.add_argument("--logits", type=Path, help="save all logits as .npy or .json")
    arguments = parser.parse_args()

    file = Gguf(arguments.model)
    tokenizer = Tokenizer(file.keys)
    if arguments.tokenize is not None:
        print(json.dumps(tokenizer.encode(arguments.tokenize, arguments.parse_special)))
        return 0
    if arguments.tokens is not None:
        tokens = [int(token) for token in arguments.tokens.split(",")]
    elif arguments.text is not None:
        tokens = [tokenizer.bos] + tokenizer.encode(arguments.text, True)
    else:
        tokens = [tokenizer.bos] + tokenizer.encode(f"User: {arguments.chat.strip()}<|eot_id|>Assistant: ", True)
    model = Model(file)
    if arguments.generate:
        generated = model.generate(tokens, arguments.generate, tokenizer.stop)
        print(json.dumps({"prompt_tokens": tokens, "tokens": generated, "text": tokenizer.decode(generated)}))
        return 0
    logits = model.forward(tokens)
    if arguments.logits:
        save_logits(arguments.logits, logits)
    print(json.dumps({"tokens": tokens, "argmax": logits.argmax(axis=1).tolist()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
