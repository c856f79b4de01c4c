#include "engine/model.hpp"

#include "engine/gguf.hpp"

#include <fmt/format.h>

#include <utility>

namespace bitnet::engine {

result<std::shared_ptr<const model>> load_model(const std::filesystem::path& path,
                                                const load_options& options) {
  auto file = gguf_file::open(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  auto loaded = std::make_shared<model>();
  // The tokenizer first: it is quick, and a file without a usable one need not have its weights packed.
  auto tokens = load_tokenizer(**file);
  if (!tokens) return tl::unexpected(std::move(tokens.error()));
  loaded->tokens = std::move(*tokens);
  // Ids of one that the other lacks would read beyond a table.
  const auto config = read_model_config(**file);
  if (!config) return tl::unexpected(config.error());
  if (loaded->tokens->size() != config->vocabulary_size) {
    return fail(
        error_code::file_malformed,
        fmt::format("cannot run {}: its tokenizer has {} tokens, but the model has {}; convert it again",
                    in_quotes(path.native()), loaded->tokens->size(), config->vocabulary_size));
  }
  auto weights = load_weights(*file, options);
  if (!weights) return tl::unexpected(std::move(weights.error()));
  loaded->weights = std::move(*weights);

  loaded->id = path.stem().string();
  loaded->path = path;
  loaded->file_bytes = (*file)->size_bytes();
  loaded->created = (*file)->identity().modified_ns / 1'000'000'000;
  loaded->chat = detect_chat_format(**file, loaded->config(), *loaded->tokens);
  return loaded;
}

}  // namespace bitnet::engine
