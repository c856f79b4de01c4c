#pragma once

#include "engine/forward_pass.hpp"
#include "kernels/cuda/operators.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bitnet::engine::cuda {

/// Where the parts of a pass's description lie in one buffer of 32-bit words, which is copied to the device
/// before the pass. Offsets count words and depend on the limits only: recorded launches stay valid.
struct step_layout {
  step_layout(const model_config& config, const pass_limits& limits);

  std::size_t table_stride;  ///< KV blocks of a whole context
  std::size_t tokens;        ///< [rows]
  std::size_t positions;     ///< [rows]
  std::size_t chunks;        ///< [rows] chunk of each row
  std::size_t logits_rows;   ///< [logits rows] rows that want logits
  std::size_t table;         ///< [chunks][table_stride] block ids
  std::size_t tiles;         ///< attention tiles; last, so that only what is used need be copied
  std::size_t most_tiles;
  std::size_t words;  ///< of all
};

/// What one pass launches, beside what is in the buffer.
struct step_shape {
  std::size_t rows = 0;
  std::size_t logits_rows = 0;
  std::size_t tiles = 0;
  std::size_t most_blocks = 0;  ///< of the longest sequence, rounded up to a power of two
  kernels::cuda::tile_size tile = kernels::cuda::tile_size::decode;
  bool decodes = false;  ///< one token a chunk, and each wants logits
  bool selects = false;  ///< some chunk wants more candidates than the greatest
  std::size_t used_words = 0;

  friend bool operator==(const step_shape&, const step_shape&) = default;
};

/// Describes the pass over `chunks` in `words` (layout.words of them).
step_shape describe_step(std::span<const batch_chunk> chunks, const model_config& config,
                         const step_layout& layout, std::int32_t* words);

/// Attention tiles that one launch may take with `scratch_floats` of scores, at least 1.
std::size_t tiles_per_launch(const step_shape& shape, std::size_t scratch_floats) noexcept;

/// Scores that the largest single tile needs.
std::size_t least_scratch_floats(const model_config& config) noexcept;

}  // namespace bitnet::engine::cuda
