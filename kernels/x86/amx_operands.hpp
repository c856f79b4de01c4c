#pragma once

#include "kernels/matmul.hpp"
#include "kernels/x86/amx_tiles.hpp"

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

// The two products of kernels/x86/matmul_amx.cpp: where their B tiles come from and what becomes of their
// sums. For that unit alone, hence without linkage.

namespace bitnet::kernels {
namespace {

constexpr std::size_t block_rows = 32;
static_assert(block_rows == ternary_matrix::block_rows && block_rows == head_matrix::block_rows());
constexpr std::size_t step_cols = quantized_activations::step_cols;
constexpr std::size_t tile_bytes = quantized_activations::tile_bytes;
constexpr std::size_t tile_tokens = quantized_activations::tile_rows;

// Not the intrinsics: GCC 12 takes a function that only prefetches for one without effects and drops its
// calls, and it would move prefetches between the tile instructions.
inline void prefetch(const void* p) {
  asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(p)));
}
inline void prefetch_to_write(const void* p) {
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(p)));
}

/// Unpacks a chunk of a step of a ternary block into rows of its two B tiles: rows 0..15 of the block as
/// codes 0..2, rows 16..31 as codes scaled by 4.
[[gnu::always_inline]] inline void unpack_chunk(const std::uint8_t* chunk, std::uint8_t* tiles) {
  const __m512i low_field = _mm512_set1_epi8(0x03);
  const __m512i high_field = _mm512_set1_epi8(0x0C);
  const __m512i x = _mm512_loadu_si512(chunk);
  const __m512i z = _mm512_srli_epi16(x, 4);
  _mm512_store_si512(tiles, _mm512_and_si512(x, low_field));
  _mm512_store_si512(tiles + 64, _mm512_and_si512(z, low_field));
  _mm512_store_si512(tiles + tile_bytes, _mm512_and_si512(x, high_field));
  _mm512_store_si512(tiles + tile_bytes + 64, _mm512_and_si512(z, high_field));
}

/// Where the B tiles of a ternary block come from: a ring of unpacked steps, filled some steps ahead, a chunk
/// (an eighth of a step) at a time, so that the vector units work between the tile products.
class ternary_tiles {
 public:
  ternary_tiles(const ternary_matrix& w, std::size_t block, std::size_t steps)
      : packed_(w.block(block)), steps_(steps) {
    for (std::size_t s = 0; s < ahead && s < steps_; ++s)
      for (std::size_t chunk = 0; chunk < step_chunks; ++chunk) fill(s, chunk);
  }

  const std::uint8_t* tile(std::size_t step, std::size_t half) const {
    const std::uint8_t* const t = ring_ + step % ring_steps * 2 * tile_bytes + half * tile_bytes;
    // GCC 12's tile loads do not say that they read memory: without this their tile could be written later.
    asm volatile("" : : "m"(*reinterpret_cast<const std::uint8_t(*)[tile_bytes]>(t)));
    return t;
  }

  /// Unpacks chunks [first, first + count) of what `step` leaves room for.
  [[gnu::always_inline]] void advance(std::size_t step, std::size_t first, std::size_t count) {
    if (step + ahead >= steps_) return;
    for (std::size_t chunk = first; chunk < first + count; ++chunk) fill(step + ahead, chunk);
  }

 private:
  static constexpr std::size_t ring_steps = 4;  // 8 KB: a larger ring is pushed out of the L1 cache
  static constexpr std::size_t ahead = 3;
  static constexpr std::size_t step_chunks = 8;
  static constexpr std::size_t chunk_bytes = 64;
  static constexpr std::size_t prefetch_ahead = 2048;

  [[gnu::always_inline]] void fill(std::size_t step, std::size_t chunk) {
    const std::uint8_t* const from = packed_ + (step * step_chunks + chunk) * chunk_bytes;
    prefetch(from + prefetch_ahead);
    unpack_chunk(from, ring_ + step % ring_steps * 2 * tile_bytes + 2 * chunk_bytes * chunk);
  }

  const std::uint8_t* packed_;
  std::size_t steps_;
  alignas(64) std::uint8_t ring_[ring_steps * 2 * tile_bytes];
};

/// B tiles of an int8 head block: stored as the tiles want them.
class head_tiles {
 public:
  head_tiles(const head_matrix& w, std::size_t block, std::size_t) : packed_(w.int8_block(block)) {}

  const std::uint8_t* tile(std::size_t step, std::size_t half) const {
    return packed_ + (2 * step + half) * tile_bytes;
  }
  /// Prefetches what lies so many eighths into a step further on.
  [[gnu::always_inline]] void advance(std::size_t step, std::size_t first, std::size_t count) const {
    constexpr std::size_t prefetch_ahead = 4 * tile_bytes;
    constexpr std::size_t eighth = 2 * tile_bytes / 8;
    const std::uint8_t* const from = packed_ + 2 * step * tile_bytes + first * eighth + prefetch_ahead;
    for (std::size_t at = 0; at < count * eighth; at += 64) prefetch(from + at);
  }

 private:
  const std::uint8_t* packed_;
};

/// Writes up to 16 products of a token; rows == 0 is allowed.
inline void scale_and_store(__m512i dots, __m512 scales, float* y, std::size_t rows) {
  const __m512 values = _mm512_mul_ps(_mm512_cvtepi32_ps(dots), scales);
  if (rows >= 16) {
    _mm512_storeu_ps(y, values);
    return;
  }
  alignas(64) float out[16];
  _mm512_storeu_ps(out, values);
  for (std::size_t r = 0; r < rows; ++r) y[r] = out[r];
}

struct ternary_product {
  using matrix = ternary_matrix;
  using tiles = ternary_tiles;

  /// Products of token m with the rows from `row` on of W, from the sums of their codes; `half` says which 16
  /// rows of a block they are.
  [[gnu::always_inline]] static void store(const ternary_matrix& w, const activation_rows& x, std::size_t m,
                                           std::size_t row, std::size_t half, __m512i sums, float* y,
                                           std::size_t rows) {
    static_cast<void>(row);
    // Codes of the second half of a block were unpacked scaled by 4.
    const __m512i codes = half == 0 ? sums : _mm512_srai_epi32(sums, 2);
    scale_and_store(_mm512_sub_epi32(codes, _mm512_set1_epi32(x.row_sum()[m])),
                    _mm512_set1_ps(x.row_scale()[m] * w.scale()), y, rows);
  }
};

struct head_product {
  using matrix = head_matrix;
  using tiles = head_tiles;

  [[gnu::always_inline]] static void store(const head_matrix& w, const activation_rows& x, std::size_t m,
                                           std::size_t row, std::size_t, __m512i sums, float* y,
                                           std::size_t rows) {
    // The stored weights are 128 too large.
    const __m512i excess = _mm512_slli_epi32(_mm512_set1_epi32(x.row_sum()[m]), 7);
    const __m512 scales =
        _mm512_mul_ps(_mm512_set1_ps(x.row_scale()[m]), _mm512_loadu_ps(w.row_scales() + row));
    scale_and_store(_mm512_sub_epi32(sums, excess), scales, y, rows);
  }
};

}  // namespace
}  // namespace bitnet::kernels
