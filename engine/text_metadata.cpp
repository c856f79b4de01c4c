// What the tokenizer and the chat template take from a model file's metadata.

#include "engine/chat_template.hpp"
#include "engine/gguf.hpp"
#include "engine/tokenizer.hpp"

namespace bitnet::engine {

namespace {

template <class T>
std::vector<T> copy_or_empty(const std::vector<T>* list) {
  return list == nullptr ? std::vector<T>() : *list;
}

}  // namespace

result<std::unique_ptr<tokenizer>> load_tokenizer(const gguf_file& file) {
  tokenizer_data data;
  data.architecture = file.string("general.architecture").value_or("");
  data.model = file.string("tokenizer.ggml.model").value_or("");
  data.pre = file.string("tokenizer.ggml.pre");
  data.tokens = copy_or_empty(file.strings("tokenizer.ggml.tokens"));
  data.token_types = copy_or_empty(file.integers("tokenizer.ggml.token_type"));
  data.scores = copy_or_empty(file.numbers("tokenizer.ggml.scores"));
  data.merges = copy_or_empty(file.strings("tokenizer.ggml.merges"));
  data.bos_token_id = file.unsigned_integer("tokenizer.ggml.bos_token_id");
  data.eos_token_id = file.unsigned_integer("tokenizer.ggml.eos_token_id");
  data.eot_token_id = file.unsigned_integer("tokenizer.ggml.eot_token_id");
  data.unknown_token_id = file.unsigned_integer("tokenizer.ggml.unknown_token_id");
  data.add_bos_token = file.boolean("tokenizer.ggml.add_bos_token");
  data.add_space_prefix = file.boolean("tokenizer.ggml.add_space_prefix");
  return make_tokenizer(std::move(data));
}

chat_format detect_chat_format(const gguf_file& file, const model_config& config, const tokenizer& tokens) {
  return chat_format_of(config.architecture, file.string("tokenizer.ggml.pre").value_or(""), tokens);
}

}  // namespace bitnet::engine
