#pragma once

#include "kernels/vector_operators.hpp"

namespace bitnet::kernels {

// KV block, all bfloat16, in panels 16 wide, and pairs side by side as TDPBF16PS wants its second operand:
// for each KV head the keys, [4 panels of positions][pairs of dimensions][16 positions][2]; then for each KV
// head the values, [2 steps of 32 positions][panels of dimensions][16 pairs of positions][16 dimensions][2].
// So the first positions of a block are the beginning of either, and a short sequence reads no more. The
// keys' dimensions are padded with zeros to whole steps, the values' to whole panels.

inline constexpr std::size_t attention_max_head_dim = 256;
inline constexpr std::size_t panel_width = 16;
static_assert(panel_width == kv_panel_tokens);
inline constexpr std::size_t key_panels = kv_block_tokens / panel_width;
/// Places that a dot product takes at a time, and pairs of them.
inline constexpr std::size_t dot_step = 32;
inline constexpr std::size_t step_pairs = dot_step / 2;
/// Numbers of a panel of 16 columns in a step.
inline constexpr std::size_t step_panel = dot_step * panel_width;

/// Dimensions of a key as it is stored.
[[maybe_unused]] static constexpr std::size_t key_dims(std::size_t head_dim) noexcept {
  return (head_dim + dot_step - 1) / dot_step * dot_step;
}

[[maybe_unused]] static constexpr std::size_t value_panels(std::size_t head_dim) noexcept {
  return (head_dim + panel_width - 1) / panel_width;
}

[[maybe_unused]] static inline const std::uint16_t* keys_of(const std::byte* block, std::size_t head,
                                                            std::size_t head_dim) noexcept {
  return reinterpret_cast<const std::uint16_t*>(block) + head * key_dims(head_dim) * kv_block_tokens;
}

[[maybe_unused]] static inline const std::uint16_t* values_of(const std::byte* block, std::size_t head,
                                                              std::size_t kv_heads,
                                                              std::size_t head_dim) noexcept {
  return reinterpret_cast<const std::uint16_t*>(block) +
         (kv_heads * key_dims(head_dim) + head * value_panels(head_dim) * panel_width) * kv_block_tokens;
}

template <class V>
void store_kv(std::byte* kv_block, std::size_t slot, const float* k, const float* v, std::size_t kv_heads,
              std::size_t head_dim) {
  for (std::size_t h = 0; h < kv_heads; ++h) {
    auto* keys = const_cast<std::uint16_t*>(keys_of(kv_block, h, head_dim)) +
                 slot / panel_width * key_dims(head_dim) * panel_width + slot % panel_width * 2;
    auto* values = const_cast<std::uint16_t*>(values_of(kv_block, h, kv_heads, head_dim)) +
                   slot / dot_step * value_panels(head_dim) * step_panel +
                   slot % dot_step / 2 * panel_width * 2 + slot % 2;
    std::uint16_t rounded[panel_width];
    const auto round = [&](const float* x, std::size_t n) {
      V::store_bfloat16(rounded, n >= panel_width ? V::load(x) : load_first<V>(x, n, 0.0F));
    };
    for (std::size_t i = 0; i < key_dims(head_dim); i += panel_width) {
      round(k + h * head_dim + i, i < head_dim ? head_dim - i : 0);
      for (std::size_t j = 0; j < panel_width; ++j)
        keys[(i + j) / 2 * panel_width * 2 + (i + j) % 2] = rounded[j];
    }
    for (std::size_t i = 0; i < head_dim; i += panel_width) {
      round(v + h * head_dim + i, head_dim - i);
      for (std::size_t j = 0; j < panel_width; ++j) values[i / panel_width * step_panel + 2 * j] = rounded[j];
    }
  }
}

}  // namespace bitnet::kernels
