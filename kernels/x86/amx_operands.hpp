#pragma once

#include "kernels/matmul.hpp"
#include "kernels/x86/amx_tiles.hpp"

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

// The two products of kernels/x86/matmul_amx.cpp: where their B tiles come from and what becomes of their
// sums. A visit is the product of one block of W with up to 48 tokens. For that unit alone, hence without
// linkage.

namespace bitnet::kernels {
namespace {

constexpr std::size_t block_rows = 32;
static_assert(block_rows == ternary_matrix::block_rows && block_rows == head_matrix::block_rows());
constexpr std::size_t step_cols = quantized_activations::step_cols;
constexpr std::size_t tile_bytes = quantized_activations::tile_bytes;
constexpr std::size_t tile_tokens = quantized_activations::tile_rows;

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

/// The steps of a visit go in periods, so that every offset in the loop is a constant: `slot` is a step's
/// place in its period.
constexpr std::size_t period_steps = 4;

template <std::size_t S>
struct slot {
  static constexpr std::size_t value = S;
};

/// What a step unpacks meanwhile: a later step of the same visit, one of the next visit, or nothing.
enum class unpacks : std::uint8_t { same, next, nothing };

template <unpacks U>
struct unpacking {
  static constexpr unpacks value = U;
};

/// B tiles of a ternary matrix, visit after visit of a block: a ring of unpacked steps, one period long,
/// filled some steps ahead, a chunk (an eighth of a step) at a time, so that the vector units work between
/// the tile products. At the end of a visit the first steps of the next one are unpacked.
class ternary_tiles {
 public:
  static constexpr std::size_t ahead = 3;

  ternary_tiles(const ternary_matrix& w, std::size_t steps)
      : w_(w), steps_(steps), joins_(steps % period_steps == 0 && steps > period_steps) {}

  /// Starts a visit of `block`, after which comes one of `next`; w.block_count() for none.
  void begin(std::size_t block, std::size_t next) {
    packed_ = w_.block(block) + ahead * step_bytes;
    if (!started_) unpack_first_steps(w_.block(block));
    next_ = next < w_.block_count() ? w_.block(next) : nullptr;
    started_ = joins_ && next_ != nullptr;
  }

  /// Whether the last period of the visit unpacks for the next one.
  bool joins() const { return started_; }

  template <std::size_t S>
  const std::uint8_t* tile(slot<S>, std::size_t half) const {
    const std::uint8_t* const t = ring_ + (2 * S + half) * tile_bytes;
    // GCC 12's tile loads do not say that they read memory: without this their tile could be written later.
    asm volatile("" : : "m"(*reinterpret_cast<const std::uint8_t(*)[tile_bytes]>(t)));
    return t;
  }

  /// Unpacks chunks [first, first + count) of the step that is `ahead` of this one.
  template <std::size_t S, unpacks U>
  [[gnu::always_inline]] void advance(slot<S>, unpacking<U>, std::size_t first, std::size_t count) {
    if constexpr (U == unpacks::nothing) return;
    const std::uint8_t* const from =
        U == unpacks::same ? packed_ + S * step_bytes : next_ + (S + ahead - period_steps) * step_bytes;
    std::uint8_t* const to = ring_ + (S + ahead) % period_steps * 2 * tile_bytes;
    for (std::size_t chunk = first; chunk < first + count; ++chunk)
      unpack(from + chunk * chunk_bytes, to + 2 * chunk_bytes * chunk);
  }

  void next_period() { packed_ += period_steps * step_bytes; }

 private:
  static constexpr std::size_t step_chunks = 8;
  static constexpr std::size_t chunk_bytes = 64;
  static constexpr std::size_t step_bytes = step_chunks * chunk_bytes;
  static constexpr std::size_t prefetch_ahead = 2048;

  void unpack_first_steps(const std::uint8_t* from) {
    for (std::size_t s = 0; s < ahead && s < steps_; ++s)
      for (std::size_t chunk = 0; chunk < step_chunks; ++chunk, from += chunk_bytes)
        unpack(from, ring_ + s * 2 * tile_bytes + 2 * chunk_bytes * chunk);
  }

  [[gnu::always_inline]] static void unpack(const std::uint8_t* from, std::uint8_t* to) {
    prefetch(from + prefetch_ahead);
    unpack_chunk(from, to);
  }

  const ternary_matrix& w_;
  std::size_t steps_;
  bool joins_;
  bool started_ = false;                  ///< the ring holds the first steps of the visit to come
  const std::uint8_t* packed_ = nullptr;  ///< of the step `ahead` of the period's first
  const std::uint8_t* next_ = nullptr;
  // 8 KB: a larger ring is pushed out of the L1 cache.
  alignas(64) std::uint8_t ring_[period_steps * 2 * tile_bytes];
};

/// B tiles of an int8 head: stored as the tiles want them.
class head_tiles {
 public:
  static constexpr std::size_t ahead = 0;

  head_tiles(const head_matrix& w, std::size_t) : w_(w) {}

  void begin(std::size_t block, std::size_t) { packed_ = w_.int8_block(block); }
  bool joins() const { return false; }

  template <std::size_t S>
  const std::uint8_t* tile(slot<S>, std::size_t half) const {
    return packed_ + (2 * S + half) * tile_bytes;
  }
  /// Prefetches what lies so many eighths into a step further on.
  template <std::size_t S, unpacks U>
  [[gnu::always_inline]] void advance(slot<S>, unpacking<U>, std::size_t first, std::size_t count) const {
    constexpr std::size_t prefetch_ahead = 4 * tile_bytes;
    constexpr std::size_t eighth = 2 * tile_bytes / 8;
    const std::uint8_t* const from = packed_ + 2 * S * tile_bytes + first * eighth + prefetch_ahead;
    for (std::size_t at = 0; at < count * eighth; at += 64) prefetch(from + at);
  }
  void next_period() { packed_ += period_steps * 2 * tile_bytes; }

 private:
  const head_matrix& w_;
  const std::uint8_t* packed_ = nullptr;
};

/// step(slot, unpacking, first step of the period) for all steps of a visit with B tiles from `b`, which have
/// begun alike.
template <typename Step, typename... Tiles>
[[gnu::always_inline]] inline void for_each_step(std::size_t steps, Step step, Tiles&... b) {
  constexpr std::size_t ahead = (0U | ... | Tiles::ahead);  // they are of one type
  constexpr unpacking<unpacks::same> same;
  constexpr unpacking<unpacks::next> next;
  std::size_t s = 0;
  for (; s + period_steps + ahead <= steps; s += period_steps) {
    step(slot<0>(), same, s);
    step(slot<1>(), same, s);
    step(slot<2>(), same, s);
    step(slot<3>(), same, s);
    (b.next_period(), ...);
  }
  if ((b.joins() && ...)) {
    static_assert(ahead == 0 || ahead == period_steps - 1);
    step(slot<0>(), same, s);
    step(slot<1>(), next, s);
    step(slot<2>(), next, s);
    step(slot<3>(), next, s);
    return;
  }
  for (; s < steps; s += period_steps) {
    const auto last = [&](auto at) {
      if (s + at.value + ahead < steps)
        step(at, same, s);
      else if (s + at.value < steps)
        step(at, unpacking<unpacks::nothing>(), s);
    };
    last(slot<0>());
    last(slot<1>());
    last(slot<2>());
    last(slot<3>());
    (b.next_period(), ...);
  }
}

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
