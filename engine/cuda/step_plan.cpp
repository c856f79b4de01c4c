#include "engine/cuda/step_plan.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace bitnet::engine::cuda {

namespace {

using kernels::cuda::attention_tile;
using kernels::cuda::tile_size;

constexpr std::size_t tile_words = sizeof(attention_tile) / sizeof(std::int32_t);
constexpr std::size_t most_launch_tiles = 65535;  // of a grid's second dimension

std::size_t divided_up(std::size_t n, std::size_t by) noexcept {
  return (n + by - 1) / by;
}

std::size_t group_of(const model_config& config) noexcept {
  return config.head_count / config.kv_head_count;
}

}  // namespace

step_layout::step_layout(const model_config& config, const pass_limits& limits)
    : table_stride(kv_blocks_per_context(config)) {
  std::size_t at = 0;
  const auto take = [&at](std::size_t n) {
    const auto start = at;
    at += divided_up(n, 4) * 4;  // each part starts at 16 bytes
    return start;
  };
  const auto decode_tiles = divided_up(group_of(config), static_cast<std::size_t>(tile_size::decode));
  tokens = take(limits.rows);
  positions = take(limits.rows);
  chunks = take(limits.rows);
  logits_rows = take(limits.logits_rows);
  table = take(limits.chunks * table_stride);
  // Prompts have fewer: their tiles are fuller, but each chunk may end in one that is not full.
  most_tiles = config.kv_head_count * (limits.rows * decode_tiles + limits.chunks);
  tiles = take(most_tiles * tile_words);
  words = at;
}

step_shape describe_step(std::span<const batch_chunk> batch, const model_config& config,
                         const step_layout& layout, std::int32_t* words) {
  step_shape shape;
  shape.decodes = std::all_of(batch.begin(), batch.end(),
                              [](const auto& c) { return c.tokens.size() == 1 && c.logits == 1; });
  shape.selects = std::any_of(batch.begin(), batch.end(),
                              [](const auto& c) { return c.logits != 0 && c.candidates > 1; });
  const bool single =
      std::all_of(batch.begin(), batch.end(), [](const auto& c) { return c.tokens.size() == 1; });
  shape.tile = single ? tile_size::decode : tile_size::prefill;
  const auto tile_rows = static_cast<std::size_t>(shape.tile);
  std::size_t most_blocks = 1;
  for (std::size_t c = 0; c < batch.size(); ++c) {
    const auto& chunk = batch[c];
    const auto count = chunk.tokens.size();
    const auto blocks = divided_up(chunk.position + count, kernels::kv_block_tokens);
    most_blocks = std::max(most_blocks, blocks);
    for (std::size_t b = 0; b < blocks; ++b)
      words[layout.table + c * layout.table_stride + b] = static_cast<std::int32_t>(chunk.blocks[b]);
    const auto query_rows = count * group_of(config);
    for (std::size_t head = 0; head < config.kv_head_count; ++head) {
      for (std::size_t first = 0; first < query_rows; first += tile_rows) {
        const attention_tile tile{.chunk = static_cast<std::int32_t>(c),
                                  .kv_head = static_cast<std::int32_t>(head),
                                  .first = static_cast<std::int32_t>(first),
                                  .count = static_cast<std::int32_t>(std::min(tile_rows, query_rows - first)),
                                  .row = static_cast<std::int32_t>(shape.rows),
                                  .position = static_cast<std::int32_t>(chunk.position)};
        std::memcpy(words + layout.tiles + shape.tiles++ * tile_words, &tile, sizeof(tile));
      }
    }
    for (std::size_t i = 0; i < count; ++i, ++shape.rows) {
      words[layout.tokens + shape.rows] = static_cast<std::int32_t>(chunk.tokens[i]);
      words[layout.positions + shape.rows] = static_cast<std::int32_t>(chunk.position + i);
      words[layout.chunks + shape.rows] = static_cast<std::int32_t>(c);
      if (i + chunk.logits >= count)
        words[layout.logits_rows + shape.logits_rows++] = static_cast<std::int32_t>(shape.rows);
    }
  }
  shape.most_blocks = std::min(std::bit_ceil(most_blocks), layout.table_stride);
  shape.used_words = layout.tiles + shape.tiles * tile_words;
  return shape;
}

std::size_t tiles_per_launch(const step_shape& shape, std::size_t scratch_floats) noexcept {
  const auto floats = static_cast<std::size_t>(shape.tile) * shape.most_blocks * kernels::kv_block_tokens;
  return std::clamp<std::size_t>(scratch_floats / floats, 1, most_launch_tiles);
}

std::size_t least_scratch_floats(const model_config& config) noexcept {
  return static_cast<std::size_t>(tile_size::prefill) * kv_blocks_per_context(config) *
         kernels::kv_block_tokens;
}

}  // namespace bitnet::engine::cuda
