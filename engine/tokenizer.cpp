#include "engine/tokenizer.hpp"

#include "engine/vocabulary.hpp"

#include <fmt/core.h>

namespace bitnet::engine {

result<std::unique_ptr<tokenizer>> make_tokenizer(tokenizer_data data) {
  if (data.model == "gpt2") return make_byte_level_bpe(std::move(data));
  if (data.model == "llama") return make_sentencepiece_bpe(std::move(data));
  return fail(
      error_code::unsupported_model,
      data.model.empty()
          ? std::string("tokenizer.ggml.model is missing; convert the model again with its tokenizer.")
          : fmt::format(
                "The tokenizer \"{}\" (tokenizer.ggml.model) is not supported; known are gpt2 and llama.",
                data.model));
}

}  // namespace bitnet::engine
