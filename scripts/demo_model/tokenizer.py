"""The byte-level BPE tokenizer: trained with Hugging Face `tokenizers`, pre-tokeniser "llama-bpe"."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from .corpus import BOS, EOS, SPECIAL_TOKENS, Document, documents

LLAMA_BPE = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def train_tokenizer(vocabulary: int, seed: int, sample: int = 30_000) -> Tokenizer:
    """Learns merges from `sample` documents. The special tokens get the last ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA_BPE), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    fragments = (fragment for document in itertools.islice(documents(seed), sample)
                 for fragment in document if fragment not in SPECIAL_TOKENS)
    trainer = trainers.BpeTrainer(vocab_size=vocabulary - len(SPECIAL_TOKENS), show_progress=False, min_frequency=8,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(fragments, trainer)
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def encode(tokenizer: Tokenizer, batch: list[Document]) -> list[list[int]]:
    """Token ids of each document; every fragment is tokenised on its own, as a server does between special tokens."""
    special = {token: tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    texts = [fragment for document in batch for fragment in document if fragment not in special]
    encoded = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    return [[token for fragment in document
             for token in ([special[fragment]] if fragment in special else next(encoded).ids)] for document in batch]


def gguf_vocabulary(tokenizer: Tokenizer) -> dict[str, list[str] | list[int] | str | int | bool]:
    """The tokenizer keys of a GGUF file."""
    state = json.loads(tokenizer.to_str())["model"]
    size = tokenizer.get_vocab_size()
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in state["merges"]]
    normal, control = 1, 3
    tokens = [tokenizer.id_to_token(i) for i in range(size)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [control if token in SPECIAL_TOKENS else normal for token in tokens],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": tokenizer.token_to_id(BOS),
        "tokenizer.ggml.eos_token_id": tokenizer.token_to_id(EOS),
        "tokenizer.ggml.padding_token_id": tokenizer.token_to_id(EOS),
        "tokenizer.ggml.add_bos_token": True,
    }


def load_or_train(path: Path, vocabulary: int, seed: int) -> Tokenizer:
    """The tokenizer at `path`, trained and written there first where it is missing."""
    if path.exists():
        return Tokenizer.from_file(str(path))
    tokenizer = train_tokenizer(vocabulary, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return tokenizer
