#pragma once

#include "engine/tokenizer.hpp"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::tests {

/// One text and the ids that the reference tokenizer makes of it.
struct tokenizer_case {
  std::string text;
  std::vector<engine::token_id> ids;
  std::vector<engine::token_id> ids_with_special;  ///< control tokens recognised; byte-level only
};

/// A vocabulary of tests/support/tokenizer_vectors.json.
struct tokenizer_vectors {
  engine::tokenizer_data data;
  std::vector<tokenizer_case> cases;
};

/// `name`: "llama-bpe", "gpt-2" or "sentencepiece". Throws where the file is missing or broken.
tokenizer_vectors load_tokenizer_vectors(std::string_view name);

/// Throws with the error's message where `data` is refused.
std::unique_ptr<engine::tokenizer> make_or_throw(engine::tokenizer_data data);

/// A byte-level vocabulary with the 256 bytes first, in byte order, so that a byte's id is its value.
engine::tokenizer_data byte_vocabulary();

}  // namespace bitnet::tests
