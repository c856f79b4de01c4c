#!/usr/bin/env python3
"""Makes tokenizer_vectors.json: small vocabularies and what the reference tokenizers make of many texts.

The references are Hugging Face `tokenizers` for byte-level BPE and Google's `sentencepiece`. The C++ tests read
the file; run this again only to add texts:

    pip install tokenizers==0.23.3 sentencepiece==0.2.3
    tests/support/make_tokenizer_vectors.py tests/support/tokenizer_vectors.json
"""

import io
import json
import sys

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CONTROL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]

CORPUS = """The health of a server is what its clients can rely on. A probe that answers while the engine hangs
does not tell the truth, and a probe that waits for the engine does not answer in time.
We'll measure it, they've measured it, I'm measuring it; don't trust what isn't measured, it's that simple.
In 2024 there were 1234567 requests, 42 of them slow: 0.0034 percent, or 3 in 100000.
Der Zustand des Servers wird gemessen, nicht behauptet. Größe und Maß stimmen überein.
Le modèle répond à la requête; l'état est mesuré, jamais supposé. Où est le problème ?
El servidor responde mañana también. ¿Cuándo? ¡Siempre!
Состояние сервера измеряется каждые двести миллисекунд.
服务器的状态是测量出来的。今天天气很好。サーバーの状態を測定します。서버 상태를 측정합니다.
for (int i = 0; i < n; ++i) {
    total += weights[i] * activations[i];
    if (total > limit) return -1;
}
def main():
\tprint("ready")

\treturn 0
😀 😃 👍🏽 👨‍👩‍👧 🇩🇪 → ≤ ≥ ± µ
"""

TEXTS = [
    "", " ", "  ", "   ", "a", " a", "  a", "a ", "a  ", "Hello, world!", "Hello  world", "   leading spaces",
    "trailing spaces   ", "The health of a server", "we'll they've I'm don't it's I'd you're", "WE'LL THEY'VE I'M DON'T IT'S",
    "'s't're've'm'll'd", "''s '' 'x rock'n'roll", "'\u017f is caseless for 's", "it\u2019s typographic", "1", "12", "123", "1234",
    "1234567890", " 1 22 333 4444", "3.14159 0x1F 1e-9", "a1b22c333d4444", "\u0663\u0664\u0665\u0666\u0667 \u00bd \u00b2\u00b3 \u2167\u2163",
    "Größe Maß überein", "mañana ¿Cuándo?", "Состояние сервера", "服务器的状态", "サーバーの状態を測定します。", "서버 상태",
    "مرحبا بالعالم", "שלום עולם", "สวัสดีชาวโลก", "नमस्ते दुनिया", "e\u0301 cafe\u0301 naïve", "\u200b\u200d\ufeff", "😀", "👨‍👩‍👧 👍🏽 🇩🇪", "a😀b😀",
    "→ ≤ ≥ ± µ", "!!!???...", "--- *** ___", "(a[b]{c}<d>)", "a,b;c:d", " !x ?y", "$100 €5 £3", "e-mail@example.org",
    "https://example.org/a?b=c&d=1#e", "\n", "\n\n", "\n\n\n", "a\nb", "a\n\nb", "a \n b", "a\n  b", "  \n  ", "\r\n", "a\r\nb\r\n",
    "\r\r\n\n", "line one\r\n\r\nline two", "!\n", "?!\r\n\r\nx", "\t", "\t\tx", "x\t\ty", " \t \t ", " \n\t \n x",
    "\x0b\x0c", "a\x85b \x85 c", "a\u00a0b \u00a0 c", "a\u1680b", "a\u180eb \u180e c", "\u2003\u2003x", "a\u2028b\u2029c", "\u3000\u3000字",
    "\x00", "a\x00b", "\x01\x02\x7f", "for (int i = 0; i < n; ++i) {\n    total += 1;\n}", "def f():\n\treturn 0\n",
    '{"a": [1, 2.5, null]}', "SELECT * FROM t WHERE a = 'b';", "CamelCaseWord snake_case_word kebab-case", "ALLCAPS mixedCAPS",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abababababababab", "the the the the", "                ", "a" + " " * 17 + "b",
    "\u0130\u0131 \u1e9e ß", "𝒜𝓁𝑔𝑒𝒷𝓇𝒶 𝟙𝟚𝟛", "\U0010ffff", "\ud7ff\ue000", "<|eot_id|>", "a<|eot_id|>b", "<|begin_of_text|>Hi<|eot_id|>", "<|eot_id|",
    "<|<|eot_id|>|>", "<|eot_id|><|eot_id|>", "<s> </s> <unk> <0x41>", "\u2581 a\u2581b", "x" * 100,
]


def byte_level(pattern, corpus):
    tokenizer = Tokenizer(models.BPE(ignore_merges=pattern == LLAMA3))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus.splitlines(keepends=True), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [token for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    types = [1] * len(tokens) + [3] * len(CONTROL)
    with_special = Tokenizer.from_str(tokenizer.to_str())
    with_special.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CONTROL])
    return {
        "tokens": tokens + CONTROL,
        "token_types": types,
        "merges": [" ".join(merge) for merge in model["merges"]],
        "cases": [
            {
                "text": text,
                "ids": tokenizer.encode(text, add_special_tokens=False).ids,
                "ids_with_special": with_special.encode(text, add_special_tokens=False).ids,
            }
            for text in TEXTS
        ],
    }


def sentence_piece(corpus):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus.splitlines()),
        model_writer=model,
        model_type="bpe",
        vocab_size=560,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(processor.get_piece_size())

    def kind(i):
        if processor.is_unknown(i):
            return 2
        if processor.is_control(i):
            return 3
        return 6 if processor.is_byte(i) else 1

    return {
        "tokens": [processor.id_to_piece(i) for i in ids],
        "token_types": [kind(i) for i in ids],
        "scores": [processor.get_score(i) for i in ids],
        "cases": [{"text": text, "ids": processor.encode(text)} for text in TEXTS],
    }


def main():
    vectors = {
        "llama-bpe": byte_level(LLAMA3, CORPUS),
        "gpt-2": byte_level(GPT2, CORPUS),
        "sentencepiece": sentence_piece(CORPUS),
    }
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        json.dump(vectors, out, ensure_ascii=True, separators=(",", ":"))
        out.write("\n")


if __name__ == "__main__":
    main()
