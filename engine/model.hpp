#pragma once

#include "engine/chat_template.hpp"
#include "engine/error.hpp"
#include "engine/model_identity.hpp"
#include "engine/tokenizer.hpp"
#include "engine/weights.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace bitnet::engine {

/// A loaded model: shared read-only by tokenising actors and workers.
struct model {
  std::string id;  ///< what clients name it: the file's stem
  std::filesystem::path path;
  std::uint64_t file_bytes = 0;
  std::int64_t created = 0;                ///< Unix seconds: the file's modification time
  file_identity identity;                  ///< of the file that was read
  std::unique_ptr<model_weights> weights;  ///< null where another process holds them: see describe_model()
  std::unique_ptr<tokenizer> tokens;
  chat_format chat = chat_format::bitnet;
  model_config described;  ///< what config() answers without weights

  const model_config& config() const noexcept { return weights ? weights->config : described; }
};

/// Opens, checks and packs a GGUF file. Blocks for seconds on large models.
result<std::shared_ptr<const model>> load_model(const std::filesystem::path& path,
                                                const load_options& options = {});

/// All of a model but its weights: for a process that leaves computing to others. Quick.
result<std::shared_ptr<model>> describe_model(const std::filesystem::path& path);

}  // namespace bitnet::engine
