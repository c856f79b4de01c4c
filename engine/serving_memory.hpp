#pragma once

#include "engine/error.hpp"
#include "engine/generation.hpp"
#include "engine/weights.hpp"

#include <filesystem>

namespace bitnet::engine {

/// Whether the memory at hand (options.memory_limit_bytes, or what is measured) holds the weights of this
/// file and a KV cache of at least one context, or of the configured size. Refuses with out_of_memory and the
/// figures, or as gguf_file::open and read_model_config do. Reads the file's header only.
result<void> check_memory_to_serve(const std::filesystem::path& path, const load_options& options,
                                   const generation_options& generation);

}  // namespace bitnet::engine
