#include "engine/model.hpp"

#include "engine/gguf.hpp"

#include <fmt/format.h>

#include <utility>

namespace bitnet::engine {

namespace {

result<std::shared_ptr<model>> describe(const gguf_file& file, const std::filesystem::path& path) {
  auto described = std::make_shared<model>();
  auto tokens = load_tokenizer(file);
  if (!tokens) return tl::unexpected(std::move(tokens.error()));
  described->tokens = std::move(*tokens);
  // Ids of one that the other lacks would read beyond a table.
  auto config = read_model_config(file);
  if (!config) return tl::unexpected(std::move(config.error()));
  if (described->tokens->size() != config->vocabulary_size) {
    return fail(
        error_code::file_malformed,
        fmt::format("cannot run {}: its tokenizer has {} tokens, but the model has {}; convert it again",
                    in_quotes(path.native()), described->tokens->size(), config->vocabulary_size));
  }
  described->id = path.stem().string();
  described->path = path;
  described->file_bytes = file.size_bytes();
  described->identity = file.identity();
  described->created = described->identity.modified_ns / 1'000'000'000;
  described->chat = detect_chat_format(file, *config, *described->tokens);
  described->described = std::move(*config);
  return described;
}

}  // namespace

result<std::shared_ptr<model>> describe_model(const std::filesystem::path& path) {
  auto file = gguf_file::open(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  return describe(**file, path);
}

result<std::shared_ptr<const model>> load_model(const std::filesystem::path& path,
                                                const load_options& options) {
  auto file = gguf_file::open(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  // The tokenizer first: it is quick, and a file without a usable one need not have its weights packed.
  auto loaded = describe(**file, path);
  if (!loaded) return tl::unexpected(std::move(loaded.error()));
  auto weights = load_weights(*file, options);
  if (!weights) return tl::unexpected(std::move(weights.error()));
  (*loaded)->weights = std::move(*weights);
  return std::move(*loaded);
}

}  // namespace bitnet::engine
