#include "engine/serving_memory.hpp"

#include "engine/gguf.hpp"
#include "engine/kv_cache.hpp"
#include "engine/model_config.hpp"
#include "engine/system_memory.hpp"

#include <fmt/format.h>

namespace bitnet::engine {

namespace {

constexpr std::size_t reserved_blocks = 1;  // the canary's

std::uint64_t to_mib(std::uint64_t bytes) {
  return (bytes + (1U << 20) - 1) >> 20;
}

}  // namespace

result<void> check_memory_to_serve(const std::filesystem::path& path, const load_options& options,
                                   const generation_options& generation) {
  const auto file = gguf_file::open(path);
  if (!file) return tl::unexpected(file.error());
  const auto config = read_model_config(**file);
  if (!config) return tl::unexpected(config.error());
  const auto* embedding = (*file)->find_tensor("token_embd.weight");
  if (embedding == nullptr) return {};  // loading says what is wrong with this file
  const auto weights = weights_memory_bytes(*config, *embedding, options.head) +
                       (options.screen_head ? head_screen_bytes(*config) : 0);
  const auto available =
      options.memory_limit_bytes != 0 ? options.memory_limit_bytes : available_memory_bytes();
  const auto left = available - std::min(available, weights);
  const auto blocks =
      plan_kv_blocks(*config, generation.max_sequences, generation.kv_cache_bytes, left, reserved_blocks);
  const auto least = generation.kv_cache_bytes != 0
                         ? generation.kv_cache_bytes
                         : (kv_blocks_per_context(*config) + reserved_blocks) * kv_cache_block_bytes(*config);
  if (!blocks && generation.kv_cache_bytes != 0) return tl::unexpected(blocks.error());
  if (blocks && weights + least <= available) return {};
  return fail(
      error_code::out_of_memory,
      fmt::format("{} needs {} MiB of memory for its weights and {} MiB for the KV cache{}, but {} MiB "
                  "are available beside what is loaded; unload a model or free memory first",
                  in_quotes(path.native()), to_mib(weights), to_mib(least),
                  generation.kv_cache_bytes != 0 ? "" : " of one context (of half of what is then left)",
                  available >> 20));
}

}  // namespace bitnet::engine
