"""Writes the network as GGUF version 3 with I2_S (x86, 128-weight) linear layers."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import torch

from .network import Network, TernaryLinear, ternarise

ALIGNMENT = 32
F32, F16, I2_S = 0, 1, 36
U32, FLOAT, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5

Value = str | int | float | bool | list[str] | list[int]


def pack_i2_s(codes: np.ndarray, scale: float) -> bytes:
    """Ternary codes [n] (n % 128 == 0) as I2_S: in each 32 bytes, byte j holds j, j+32, j+64, j+96 from the high bits; then 8 scales."""
    blocks = (codes.reshape(-1, 4, 32) + 1).astype(np.uint8)
    packed = blocks[:, 0] << 6 | blocks[:, 1] << 4 | blocks[:, 2] << 2 | blocks[:, 3]
    return packed.tobytes() + np.full(8, scale, dtype="<f4").tobytes()


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    """A metadata value with its type in front."""
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", U32, value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(_string(item) for item in value)
    return struct.pack("<IIQ", ARRAY, I32, len(value)) + struct.pack(f"<{len(value)}i", *value)


def metadata(network: Network, name: str, description: str) -> dict[str, Value]:
    shape, arch = network.shape, "bitnet-b1.58"
    return {
        "general.architecture": arch,
        "general.name": name,
        "general.description": description,
        "general.license": "apache-2.0",
        "general.file_type": 40,
        "general.quantization_version": 2,
        "general.alignment": ALIGNMENT,
        f"{arch}.vocab_size": shape.vocabulary,
        f"{arch}.context_length": shape.context,
        f"{arch}.embedding_length": shape.embedding,
        f"{arch}.block_count": shape.blocks,
        f"{arch}.feed_forward_length": shape.feed_forward,
        f"{arch}.rope.dimension_count": shape.head_dim,
        f"{arch}.rope.freq_base": shape.rope_base,
        f"{arch}.attention.head_count": shape.heads,
        f"{arch}.attention.head_count_kv": shape.kv_heads,
        f"{arch}.attention.layer_norm_rms_epsilon": shape.norm_epsilon,
    }


def tensors(network: Network) -> list[tuple[str, tuple[int, ...], int, bytes]]:
    """(name, dimensions with the fastest first, type, bytes) of every tensor."""
    ternary = {name for name, module in network.named_modules() if isinstance(module, TernaryLinear)}
    result = []
    for name, parameter in network.named_parameters():
        weight = parameter.detach()
        dimensions = tuple(reversed(weight.shape))
        if name == "token_embd":
            result.append(("token_embd.weight", dimensions, F16, weight.half().numpy().tobytes()))
        elif name.removesuffix(".weight") in ternary:
            codes, scale = ternarise(weight)
            result.append((name, dimensions, I2_S, pack_i2_s(codes.numpy().astype(np.int8).ravel(), scale.item())))
        else:
            result.append((name, dimensions, F32, weight.float().numpy().tobytes()))
    return result


@torch.no_grad()
def write_gguf(path: Path, network: Network, keys: dict[str, Value]) -> None:
    """Writes the file beside its place and renames it, so that readers never see half a file."""
    infos, data = [], bytearray()
    for name, dimensions, kind, content in (entries := tensors(network)):
        infos.append(_string(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, len(data)))
        data += content + bytes(-len(content) % ALIGNMENT)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(entries), len(keys))
    header += b"".join(_string(key) + _value(value) for key, value in keys.items()) + b"".join(infos)
    header += bytes(-len(header) % ALIGNMENT)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(header + data)
    os.replace(partial, path)
