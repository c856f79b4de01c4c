#!/usr/bin/env python3
"""Makes models/demo.gguf from nothing: text, tokenizer, training, evaluation and export.

Needs PyTorch 2.x, numpy and tokenizers:  pip install torch numpy tokenizers
An interrupted run continues from its checkpoint. Without --minutes a run is a function of its seed and steps.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from demo_model.corpus import EOS, EOT, documents
from demo_model.gguf import metadata, write_gguf
from demo_model.network import Muon, Network, Shape, TernaryLinear
from demo_model.tokenizer import encode, gguf_vocabulary, load_or_train

TOKENIZER_SEED, TRAINING_SEED, HELD_OUT_SEED = 11, 1_000, 7
PROMPTS = ("Once upon a time", "<user>What is a liveness probe?", "<user>Tell me a story about a fox.", "<user>What is your name?",
           "<user>What is the capital of Italy?", "<user>What is 3 plus 4?")


def sequences(tokenizer, seed: int, length: int) -> Iterator[list[int]]:
    """Endless sequences of length + 1 tokens; each starts at the start of a document and is filled with more."""
    stream = documents(seed)
    sequence: list[int] = []
    while True:
        for document in encode(tokenizer, list(itertools.islice(stream, 64))):
            sequence += document
            if len(sequence) > length:
                yield sequence[:length + 1]
                sequence = []


def learning_rate(progress: float, warm_up: float = 0.02, decay_from: float = 0.35) -> float:
    """Factor of the peak rate: warm-up, plateau, then a cosine to one hundredth."""
    if progress < warm_up:
        return (progress + 1e-3) / warm_up
    if progress < decay_from:
        return 1.0
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - decay_from) / (1 - decay_from))))


@torch.no_grad()
def bits_per_byte(network: Network, tokenizer, count: int) -> float:
    """On `count` held-out documents, special tokens included in the cost but not in the bytes."""
    special = set(tokenizer.get_added_tokens_decoder())
    bits, size = 0.0, 0
    for ids in encode(tokenizer, list(itertools.islice(documents(HELD_OUT_SEED), count))):
        ids = ids[:network.shape.context + 1]
        bits += network.loss(torch.tensor([ids])).item() * (len(ids) - 1) / math.log(2)
        size += len(tokenizer.decode([i for i in ids if i not in special]).encode())
    return bits / size


@torch.no_grad()
def complete(network: Network, tokenizer, prompt: str, limit: int = 220) -> str:
    """Greedy text; a prompt that starts with <user> is rendered as a chat."""
    fragments = ["<|begin_of_text|>", prompt]
    if prompt.startswith("<user>"):
        fragments = ["<|begin_of_text|>", "User: " + prompt.removeprefix("<user>"), EOT, "Assistant: "]
    ids = encode(tokenizer, [fragments])[0]
    start, stop = len(ids), {tokenizer.token_to_id(EOS), tokenizer.token_to_id(EOT)}
    while len(ids) - start < limit and ids[-1] not in stop:
        ids.append(int(network(torch.tensor([ids]))[0, -1].argmax()))
    return tokenizer.decode([i for i in ids[start:] if i not in stop])


def export(network: Network, tokenizer, path: Path) -> None:
    keys = metadata(network, "bitnet-server demo", "A very small ternary model for demonstrations and tests.")
    write_gguf(path, network, keys | gguf_vocabulary(tokenizer))


def report(network: Network, tokenizer, held_out: int) -> None:
    print(json.dumps({"held_out_bits_per_byte": round(bits_per_byte(network, tokenizer, held_out), 4)}))
    for prompt in PROMPTS:
        print(f"--- {prompt}\n{complete(network, tokenizer, prompt)}", flush=True)


def train(arguments: argparse.Namespace) -> tuple[Network, object]:
    """Trains, or continues, until the steps or the minutes are used up."""
    tokenizer = load_or_train(arguments.work / "tokenizer.json", arguments.vocabulary, TOKENIZER_SEED)
    shape = Shape(tokenizer.get_vocab_size(), arguments.embedding, arguments.feed_forward, arguments.blocks, arguments.heads, arguments.kv_heads)
    torch.manual_seed(0)
    network = Network(shape)
    matrices = [module.weight for module in network.modules() if isinstance(module, TernaryLinear)]
    chosen = {id(matrix) for matrix in matrices}
    others = [parameter for parameter in network.parameters() if id(parameter) not in chosen]
    optimisers = [(Muon(matrices, arguments.matrix_rate), arguments.matrix_rate),
                  (torch.optim.Adam(others, arguments.rate, betas=(0.9, 0.98)), arguments.rate)]
    step, elapsed, checkpoint = 0, 0.0, arguments.work / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint)
        network.load_state_dict(state["network"])
        for (optimiser, _), saved in zip(optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved)
        step, elapsed = state["step"], state["elapsed"]
    print(json.dumps({"ternary_parameters": network.ternary_parameters(), "parameters": sum(p.numel() for p in network.parameters()),
                      "vocabulary": shape.vocabulary, "resumed_at_step": step}), flush=True)

    def save(step: int) -> None:
        state = {"network": network.state_dict(), "optimisers": [optimiser.state_dict() for optimiser, _ in optimisers], "step": step,
                 "elapsed": elapsed + time.monotonic() - began}
        torch.save(state, checkpoint.with_suffix(".partial"))
        checkpoint.with_suffix(".partial").replace(checkpoint)

    loss_of = torch.compile(network.loss) if arguments.compile else network.loss
    average, length, source = None, 0, None
    began = reported = time.monotonic()
    while True:
        progress = step / arguments.steps
        if arguments.minutes:
            progress = max(progress, (elapsed + time.monotonic() - began) / (60 * arguments.minutes))
        if progress >= 1:
            break
        wanted = 256 if progress < 0.75 else 512 if progress < 0.94 else 1024
        if wanted != length:
            length, source = wanted, sequences(tokenizer, TRAINING_SEED + step, wanted)
        for optimiser, peak in optimisers:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = peak * learning_rate(progress)
        pieces = arguments.batch_tokens // arguments.micro_tokens
        total = 0.0
        for _ in range(pieces):
            batch = torch.tensor(list(itertools.islice(source, arguments.micro_tokens // length)))
            loss = loss_of(batch) / pieces
            loss.backward()
            total += loss.item()
        for optimiser, _ in optimisers:
            optimiser.step()
        step += 1
        average = total if average is None else 0.95 * average + 0.05 * total
        if step % 10 == 0:
            rate = 10 * arguments.batch_tokens / (time.monotonic() - reported)
            reported = time.monotonic()
            print(json.dumps({"step": step, "tokens": step * arguments.batch_tokens, "progress": round(progress, 4), "loss": round(total, 4),
                              "average": round(average, 4), "tokens_per_second": round(rate)}), flush=True)
        if step % arguments.checkpoint_every == 0:
            save(step)
            export(network, tokenizer, arguments.work / "latest.gguf")
    save(step)
    return network, tokenizer


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("models/demo.gguf"), help="the exported model")
    parser.add_argument("--work", type=Path, default=Path("build/demo_model"), help="folder for tokenizer, checkpoint and previews")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--minutes", type=float, default=0, help="finish in this time at the latest; the schedule adapts")
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--embedding", type=int, default=256)
    parser.add_argument("--feed-forward", type=int, default=768)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--micro-tokens", type=int, default=4096)
    parser.add_argument("--matrix-rate", type=float, default=0.02, help="peak rate of Muon for the ternary matrices")
    parser.add_argument("--rate", type=float, default=0.004, help="peak rate of Adam for embedding and norms")
    parser.add_argument("--checkpoint-every", type=int, default=50)
    parser.add_argument("--held-out", type=int, default=1000, help="documents in the final evaluation")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="fuse operators with torch.compile (needs a C++ compiler)")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    keep = 1 << 30  # glibc returns large blocks to the system at once by default; the page faults cost more than the maths
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, keep), libc.mallopt(-1, keep)
    arguments.work.mkdir(parents=True, exist_ok=True)
    network, tokenizer = train(arguments)
    with torch.no_grad():
        network.token_embd.copy_(network.token_embd.half().float())
    report(network, tokenizer, arguments.held_out)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    export(network, tokenizer, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
