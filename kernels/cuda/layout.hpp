#pragma once

#include <cstddef>
#include <cstdint>

// Where everything lies in device memory. Plain constexpr arithmetic, shared by the packing on the host, the
// kernels (nvcc --expt-relaxed-constexpr) and the tests.

namespace bitnet::kernels::cuda {

inline constexpr unsigned warp_lanes = 32;

/// Weights are cut into tiles of 8 rows and 512 bytes: one 16-byte load for each lane of a warp. Lane
/// 4 * (row % 8) + c holds four words; word j of lane c belongs to the columns [64 j + 16 c, 64 j + 16 c +
/// 16) of the tile for ternary weights, [16 c + 4 j, 16 c + 4 j + 4) for int8.
///
/// That is the fragment of mma.m16n8k32's first operand (PTX ISA, "Matrix fragments for mma.m16n8k32": lane
/// 4 g + c holds row g), with the columns renamed: since a dot product may take its columns in any order, the
/// second operand only has to be renamed alike, and then needs 16 consecutive activations a lane.
inline constexpr std::size_t tile_rows = 8;
inline constexpr std::size_t tile_bytes = 512;
inline constexpr std::size_t ternary_tile_cols = 256;
inline constexpr std::size_t int8_tile_cols = 64;

/// Rows are padded to 16, columns to 256, with weight zero: activations are padded alike, whatever reads
/// them.
inline constexpr std::size_t row_padding = 16;
inline constexpr std::size_t col_padding = 256;

constexpr std::size_t round_up(std::size_t n, std::size_t multiple) noexcept {
  return (n + multiple - 1) / multiple * multiple;
}

/// Where a ternary weight is: a byte of the matrix and two bits of it (the weight + 1).
struct ternary_place {
  std::size_t byte = 0;
  unsigned shift = 0;
};
constexpr ternary_place ternary_place_of(std::size_t row, std::size_t col, std::size_t padded_cols) noexcept {
  const std::size_t tile = row / tile_rows * (padded_cols / ternary_tile_cols) + col / ternary_tile_cols;
  const std::size_t k = col % ternary_tile_cols;
  const std::size_t word = k / 64;       // j
  const std::size_t lane = k % 64 / 16;  // c
  const std::size_t field = k % 16 / 4;  // masked out of a word, a field gives four consecutive columns
  return {tile * tile_bytes + (row % tile_rows * 4 + lane) * 16 + word * 4 + k % 4,
          static_cast<unsigned>(2 * field)};
}

constexpr std::size_t int8_place_of(std::size_t row, std::size_t col, std::size_t padded_cols) noexcept {
  const std::size_t tile = row / tile_rows * (padded_cols / int8_tile_cols) + col / int8_tile_cols;
  return tile * tile_bytes + row % tile_rows * 64 + col % int8_tile_cols;
}

/// KV blocks are laid out as on the CPU (kernels/kv_block.hpp): bfloat16, 64 positions; keys in panels of 16
/// positions with pairs of dimensions side by side, values in steps of 32 positions and those in panels of 16
/// dimensions with pairs of positions side by side. Offsets count numbers from the start of a layer's part.
inline constexpr std::size_t kv_positions = 64;
inline constexpr std::size_t kv_panel = 16;
/// Places of a dot product's step; the dimensions of keys are padded to whole steps.
inline constexpr std::size_t kv_step = 32;

constexpr std::size_t key_offset(std::size_t head, std::size_t dim, std::size_t slot,
                                 std::size_t head_dim) noexcept {
  const std::size_t dims = round_up(head_dim, kv_step);
  return head * dims * kv_positions + slot / kv_panel * dims * kv_panel + dim / 2 * 2 * kv_panel +
         slot % kv_panel * 2 + dim % 2;
}
constexpr std::size_t value_offset(std::size_t head, std::size_t dim, std::size_t slot, std::size_t kv_heads,
                                   std::size_t head_dim) noexcept {
  const std::size_t dims = round_up(head_dim, kv_panel);
  return (kv_heads * round_up(head_dim, kv_step) + head * dims) * kv_positions +
         slot / kv_step * dims * kv_step + dim / kv_panel * kv_step * kv_panel +
         slot % kv_step / 2 * 2 * kv_panel + dim % kv_panel * 2 + slot % 2;
}

}  // namespace bitnet::kernels::cuda
