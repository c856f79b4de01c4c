#!/usr/bin/env python3
"""Makes models/demo.gguf from nothing: text, tokenizer, training, evaluation and export.

Needs PyTorch 2.x, numpy and tokenizers:  pip install torch numpy tokenizers
An interrupted run continues from its checkpoint. Without --minutes an uninterrupted run depends on its options only.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from demo_model.corpus import EOS, EOT, documents
from demo_model.gguf import metadata, write_gguf
from demo_model.network import Muon, Network, Shape, TernaryLinear
from demo_model.tokenizer import encode, gguf_vocabulary, load_or_train

TOKENIZER_SEED, TRAINING_SEED, HELD_OUT_SEED = 11, 1_000, 7
PHASES = ((0.9, 256), (1.0, 512))  # (progress at which the phase ends, sequence length in tokens)
PROMPTS = ("Once upon a time", "The quick brown fox", "The capital of France is", "<user>Hello!", "<user>Count to five.", "<user>Write a poem about the sea.",
           "<user>What is the difference between liveness and readiness?", "<user>What is a liveness probe?", "<user>Tell me a story about a fox.", "<user>What is your name?",
           "<user>What is the capital of Italy?", "<user>What is 3 plus 4?")


def sequences(tokenizer: Tokenizer, seed: int, length: int) -> Iterator[list[int]]:
    """Endless sequences of length + 1 tokens; each starts at the start of a document and is filled with more."""
    stream = documents(seed)
    sequence: list[int] = []
    while True:
        for document in encode(tokenizer, list(itertools.islice(stream, 64))):
            sequence += document
            if len(sequence) > length:
                yield sequence[:length + 1]
                sequence = []


def learning_rate(step: int, progress: float, warm_up_steps: int = 20, decay_from: float = 0.7) -> float:
    """Factor of the peak rate: warm-up, plateau, then a cosine to one hundredth."""
    if progress < decay_from:
        return min(1.0, (step + 1) / warm_up_steps)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - decay_from) / (1 - decay_from))))


@torch.no_grad()
def bits_per_byte(network: Network, tokenizer: Tokenizer, count: int) -> float:
    """On `count` held-out documents, special tokens included in the cost but not in the bytes."""
    special = set(tokenizer.get_added_tokens_decoder())
    bits, size = 0.0, 0
    for ids in encode(tokenizer, list(itertools.islice(documents(HELD_OUT_SEED), count))):
        ids = ids[:network.shape.context + 1]
        bits += network.loss(torch.tensor([ids])).item() * (len(ids) - 1) / math.log(2)
        size += len(tokenizer.decode([i for i in ids if i not in special]).encode())
    return bits / size


@torch.no_grad()
def complete(network: Network, tokenizer: Tokenizer, prompt: str, limit: int = 220) -> str:
    """Greedy text; a prompt that starts with <user> is rendered as a chat."""
    fragments = ["<|begin_of_text|>", prompt]
    if prompt.startswith("<user>"):
        fragments = ["<|begin_of_text|>", "User: " + prompt.removeprefix("<user>"), EOT, "Assistant: "]
    ids = encode(tokenizer, [fragments])[0]
    start, stop = len(ids), {tokenizer.token_to_id(EOS), tokenizer.token_to_id(EOT)}
    while len(ids) - start < limit and ids[-1] not in stop:
        ids.append(int(network(torch.tensor([ids]))[0, -1].argmax()))
    return tokenizer.decode([i for i in ids[start:] if i not in stop])


def export(network: Network, tokenizer: Tokenizer, path: Path) -> None:
    keys = metadata(network, "bitnet-server demo", "A very small ternary model for demonstrations and tests.")
    write_gguf(path, network, keys | gguf_vocabulary(tokenizer))


def report(network: Network, tokenizer: Tokenizer, held_out: int) -> None:
    print(json.dumps({"held_out_bits_per_byte": round(bits_per_byte(network, tokenizer, held_out), 4)}))
    for prompt in PROMPTS:
        print(f"--- {prompt}\n{complete(network, tokenizer, prompt)}", flush=True)


class Training:
    """The network, its two optimisers and the progress, as they go into a checkpoint."""

    def __init__(self, arguments: argparse.Namespace, vocabulary: int) -> None:
        self.arguments, self.step, self.elapsed = arguments, 0, 0.0
        torch.manual_seed(0)
        self.network = Network(Shape(vocabulary, arguments.embedding, arguments.feed_forward, arguments.blocks, arguments.heads,
                                     arguments.kv_heads))
        matrices = [module.weight for module in self.network.modules() if isinstance(module, TernaryLinear)]
        chosen = {id(matrix) for matrix in matrices}
        others = [parameter for parameter in self.network.parameters() if id(parameter) not in chosen]
        self.optimisers = ((Muon(matrices, arguments.matrix_rate), arguments.matrix_rate),
                           (torch.optim.Adam(others, arguments.rate, betas=(0.9, 0.98)), arguments.rate))
        self.path = arguments.work / "checkpoint.pt"
        self.began = time.monotonic()

    def load(self) -> None:
        """Continues from the checkpoint where there is one."""
        if self.path.exists():
            state = torch.load(self.path)
            self.network.load_state_dict(state["network"])
            for (optimiser, _), saved in zip(self.optimisers, state["optimisers"]):
                optimiser.load_state_dict(saved)
            self.step, self.elapsed = state["step"], state["elapsed"]

    def save(self) -> None:
        state = {"network": self.network.state_dict(), "optimisers": [optimiser.state_dict() for optimiser, _ in self.optimisers],
                 "step": self.step, "elapsed": self.seconds()}
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)

    def seconds(self) -> float:
        return self.elapsed + time.monotonic() - self.began

    def progress(self) -> float:
        """From 0 to 1, by steps or by the clock, whichever is further."""
        by_clock = self.seconds() / (60 * self.arguments.minutes) if self.arguments.minutes else 0.0
        return max(self.step / self.arguments.steps, by_clock)

    def set_rates(self, progress: float) -> None:
        for optimiser, peak in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = peak * learning_rate(self.step, progress)

    def update(self, loss_of: Callable[[Tensor], Tensor], batches: list[Tensor]) -> float:
        """One optimiser step over all batches; the mean loss."""
        total = 0.0
        for batch in batches:
            loss = loss_of(batch) / len(batches)
            loss.backward()
            total += loss.item()
        for optimiser, _ in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return total


def train(arguments: argparse.Namespace, tokenizer: Tokenizer) -> Network:
    """Trains, or continues, until the steps or the minutes are used up."""
    training = Training(arguments, tokenizer.get_vocab_size())
    training.load()
    network = training.network
    print(json.dumps({"ternary_parameters": network.ternary_parameters(), "parameters": sum(p.numel() for p in network.parameters()),
                      "resumed_at_step": training.step}), flush=True)
    fused = torch.compile(network.loss, dynamic=False) if arguments.compile else network.loss
    length, source, reported = 0, iter(()), time.monotonic()
    while (progress := training.progress()) < 1:
        wanted = next(phase_length for until, phase_length in PHASES if progress < until)
        if wanted != length:
            length, source = wanted, sequences(tokenizer, TRAINING_SEED + training.step, wanted)
        training.set_rates(progress)
        batches = [torch.tensor(list(itertools.islice(source, arguments.micro_tokens // length)))
                   for _ in range(arguments.batch_tokens // arguments.micro_tokens)]
        # Only the first phase is long enough to pay for compiling.
        loss = training.update(fused if length == PHASES[0][1] else network.loss, batches)
        if training.step % 10 == 0:
            rate = 10 * arguments.batch_tokens / (time.monotonic() - reported)
            reported = time.monotonic()
            print(json.dumps({"step": training.step, "tokens": training.step * arguments.batch_tokens, "progress": round(progress, 4),
                              "loss": round(loss, 4), "tokens_per_second": round(rate)}), flush=True)
        if training.step % arguments.checkpoint_every == 0:
            training.save()
            export(network, tokenizer, arguments.work / "latest.gguf")
    training.save()
    return network


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("models/demo.gguf"), help="the exported model")
    parser.add_argument("--work", type=Path, default=Path("build/demo_model"), help="folder for tokenizer, checkpoint and previews")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--minutes", type=float, default=0, help="finish in this time at the latest; the schedule adapts")
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--embedding", type=int, default=256)
    parser.add_argument("--feed-forward", type=int, default=512)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--micro-tokens", type=int, default=4096)
    parser.add_argument("--matrix-rate", type=float, default=0.02, help="peak rate of Muon for the ternary matrices")
    parser.add_argument("--rate", type=float, default=0.004, help="peak rate of Adam for embedding and norms")
    parser.add_argument("--checkpoint-every", type=int, default=50)
    parser.add_argument("--held-out", type=int, default=300, help="documents in the final evaluation")
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
    tokenizer = load_or_train(arguments.work / "tokenizer.json", arguments.vocabulary, TOKENIZER_SEED)
    network = train(arguments, tokenizer)
    with torch.no_grad():
        network.token_embd.copy_(network.token_embd.half().float())
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    export(network, tokenizer, arguments.output)
    report(network, tokenizer, arguments.held_out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
