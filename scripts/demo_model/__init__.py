"""How models/demo.gguf is made: corpus, tokenizer, network, training and GGUF export."""
