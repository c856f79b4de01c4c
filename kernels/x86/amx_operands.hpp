#pragma once

#include "kernels/matmul.hpp"
#include "kernels/x86/amx_tiles.hpp"

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

// The two products of kernels/x86/matmul_amx.cpp: where their B tiles come from and what becomes of their
// sums. For that unit alone, hence without linkage. What the loops over the steps of a visit use is small
// enough to live in registers: a visit works on copies.

namespace bitnet::kernels {
namespace {

constexpr std::size_t block_rows = 32;
static_assert(block_rows == ternary_matrix::block_rows && block_rows == head_matrix::block_rows());
constexpr std::size_t step_cols = activation_rows::step_cols;
constexpr std::size_t tile_bytes = activation_rows::tile_bytes;
constexpr std::size_t tile_tokens = activation_rows::tile_rows;

/// The steps of a visit go in periods of four, so that every offset in the loop is a constant.
constexpr std::size_t period_steps = 4;

inline void prefetch_to_write(const void* p) {
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(p)));
}

/// One block of a matrix times some tiles of tokens.
struct visit {
  std::size_t block = 0;
  std::size_t first_tile = 0;
  std::size_t tiles = 0;
  std::size_t matrix = 0;
};

/// The visits of a product in the order in which they are computed: all of a block (of each matrix in turn),
/// then those of the next, so that packed weights come from the cache after the first.
class visits {
 public:
  /// `tiles`: tiles of tokens. Neither range is empty.
  visits(work_range tiles, work_range blocks, std::size_t matrices)
      : tiles_(tiles),
        blocks_(blocks),
        matrices_(matrices),
        at_{.block = blocks.first, .first_tile = tiles.first, .tiles = group(tiles.first)} {}

  bool done() const { return at_.block == blocks_.last; }
  const visit& operator*() const { return at_; }
  const visit* operator->() const { return &at_; }

  visits& operator++() {
    if (++at_.matrix < matrices_) return *this;
    at_.matrix = 0;
    at_.first_tile += at_.tiles;
    if (at_.first_tile == tiles_.last) {
      at_.first_tile = tiles_.first;
      ++at_.block;
    }
    at_.tiles = group(at_.first_tile);
    return *this;
  }

 private:
  /// By threes, at the end by twos: the more tiles a visit has, the less the weights cost.
  std::size_t group(std::size_t first) const {
    const std::size_t left = tiles_.last - first;
    return left == 1 ? 1 : left == 2 || left == 4 ? 2 : 3;
  }

  work_range tiles_;
  work_range blocks_;
  std::size_t matrices_;
  visit at_;
};

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

/// B tiles of a ternary matrix: a ring of unpacked steps, one period long and filled three steps ahead, an
/// eighth of a step at a time, so that the vector units work between the tile products. What is unpacked
/// follows the same visits, three steps ahead of them.
class ternary_tiles {
 public:
  /// 8 KB: a larger ring would be pushed out of the L1 cache.
  struct memory {
    alignas(4096) std::uint8_t ring[period_steps * 2 * tile_bytes];
  };

  /// `w`: the matrices of the visits.
  ternary_tiles(const ternary_matrix* const* w, const visits& all, memory& m)
      : w_(w),
        steps_(w[0]->padded_cols() / step_cols),
        left_(steps_),
        visits_(all),
        from_(w[all->matrix]->block(all->block)) {
    for (std::size_t s = 0; s < period_steps; ++s) slots_[s] = m.ring + s * 2 * tile_bytes;
    for (std::size_t s = 0; s < ahead; ++s) {
      unpack_to(slots_[s], 0, eighths);
      next_source();
    }
  }

  /// Half of the tiles of the step that is S steps on.
  template <std::size_t S>
  [[gnu::always_inline]] const std::uint8_t* tile(std::size_t half) const {
    return slots_[S] + half * tile_bytes;
  }

  /// Eighths [first, first + count) of what the step S steps on has to do for later ones.
  template <std::size_t S>
  [[gnu::always_inline]] void prepare(std::size_t first, std::size_t count) {
    unpack_to(slots_[(S + ahead) % period_steps], first, count);
    if (first + count == eighths) next_source();
  }

  /// Goes on by so many steps, a period at most.
  template <std::size_t Steps>
  [[gnu::always_inline]] void advance() {
    static_assert(Steps == 1 || Steps == period_steps);
    if constexpr (Steps == period_steps) return;
    std::uint8_t* const first = slots_[0];
    slots_[0] = slots_[1];
    slots_[1] = slots_[2];
    slots_[2] = slots_[3];
    slots_[3] = first;
  }

  void begin(const visit&) {}

 private:
  static constexpr std::size_t ahead = period_steps - 1;
  static constexpr std::size_t eighths = 8;  // chunks of 64 bytes
  static constexpr std::size_t prefetch_ahead = 1536;

  [[gnu::always_inline]] void unpack_to(std::uint8_t* slot, std::size_t first, std::size_t count) {
    for (std::size_t chunk = first; chunk < first + count; ++chunk) {
      prefetch(from_ + chunk * 64 + prefetch_ahead);
      unpack_chunk(from_ + chunk * 64, slot + chunk * 128);
    }
  }

  [[gnu::always_inline]] void next_source() {
    from_ += eighths * 64;
    if (--left_ == 0) next_visit();
  }

  /// After the last visit its block is unpacked again, for nothing.
  void next_visit() {
    visits next = visits_;
    if (!(++next).done()) visits_ = next;
    from_ = w_[visits_->matrix]->block(visits_->block);
    left_ = steps_;
  }

  const ternary_matrix* const* w_;
  std::size_t steps_;
  std::size_t left_;          ///< steps of the visit that are not unpacked yet
  visits visits_;             ///< at the one that is being unpacked
  const std::uint8_t* from_;  ///< the step to unpack
  std::uint8_t* slots_[period_steps];
};

/// B tiles of an int8 head: stored as the tiles want them.
class head_tiles {
 public:
  struct memory {};

  head_tiles(const head_matrix* const* w, const visits&, memory&) : w_(w[0]) {}

  template <std::size_t S>
  [[gnu::always_inline]] const std::uint8_t* tile(std::size_t half) const {
    return packed_ + (2 * S + half) * tile_bytes;
  }

  template <std::size_t S>
  [[gnu::always_inline]] void prepare(std::size_t first, std::size_t count) const {
    constexpr std::size_t prefetch_ahead = 4 * tile_bytes;
    constexpr std::size_t eighth = 2 * tile_bytes / 8;
    const std::uint8_t* const from = packed_ + 2 * S * tile_bytes + first * eighth + prefetch_ahead;
    for (std::size_t at = 0; at < count * eighth; at += 64) prefetch(from + at);
  }

  template <std::size_t Steps>
  [[gnu::always_inline]] void advance() {
    packed_ += Steps * 2 * tile_bytes;
  }

  void begin(const visit& v) { packed_ = w_->int8_block(v.block); }

 private:
  const head_matrix* w_;
  const std::uint8_t* packed_ = nullptr;
};

/// The sums of visits: a row a token, 32 rows of W. One of two: those of the second matrix, or of a second
/// visit that is computed beside the first, follow those of the first.
struct sum_rows {
  static constexpr std::size_t stride = block_rows * sizeof(std::int32_t);
  static constexpr std::size_t second = 3 * tile_tokens * block_rows;

  std::int32_t* row(std::size_t which, std::size_t token) {
    return values + which * second + token * block_rows;
  }

  alignas(4096) std::int32_t values[2 * second];
};

/// Products of a token with a ternary matrix from sums of codes: rows [0, 16) and [16, 32) of a block.
[[gnu::always_inline]] inline void scale_ternary(const activation_rows& x, std::size_t m, float w_scale,
                                                 const std::int32_t* sums, __m512& low, __m512& high) {
  const __m512i row_sum = _mm512_set1_epi32(x.row_sum()[m]);
  const __m512 factor = _mm512_set1_ps(x.row_scale()[m] * w_scale);
  // Codes of the second half of a block were unpacked scaled by 4.
  const __m512i high_codes = _mm512_srai_epi32(_mm512_load_si512(sums + 16), 2);
  low = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_load_si512(sums), row_sum)), factor);
  high = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(high_codes, row_sum)), factor);
}

class ternary_scaling {
 public:
  ternary_scaling(const ternary_matrix* const* w, const activation_rows& x) : x_(x), scale_(w[0]->scale()) {}

  void begin(std::size_t) {}

  [[gnu::always_inline]] void scale(std::size_t m, const std::int32_t* sums, __m512& low,
                                    __m512& high) const {
    scale_ternary(x_, m, scale_, sums, low, high);
  }

 private:
  activation_rows x_;
  float scale_;
};

/// relu(products with the first matrix)^2 * products with the second.
class gated_scaling {
 public:
  gated_scaling(const ternary_matrix* const* w, const activation_rows& x)
      : x_(x), gate_scale_(w[0]->scale()), up_scale_(w[1]->scale()) {}

  void begin(std::size_t) {}

  [[gnu::always_inline]] void scale(std::size_t m, const std::int32_t* sums, __m512& low,
                                    __m512& high) const {
    __m512 up_low;
    __m512 up_high;
    scale_ternary(x_, m, gate_scale_, sums, low, high);
    scale_ternary(x_, m, up_scale_, sums + sum_rows::second, up_low, up_high);
    low = _mm512_mul_ps(squared_relu(low), up_low);
    high = _mm512_mul_ps(squared_relu(high), up_high);
  }

 private:
  /// As vector_kernels::squared_relu_gate: NaN passes.
  static __m512 squared_relu(__m512 v) {
    const __m512 positive = _mm512_max_ps(_mm512_setzero_ps(), v);
    return _mm512_mul_ps(positive, positive);
  }

  activation_rows x_;
  float gate_scale_;
  float up_scale_;
};

/// Products with an int8 head: one scale a row, and stored weights are 128 too large.
class head_scaling {
 public:
  head_scaling(const head_matrix* const* w, const activation_rows& x) : x_(x), w_(w[0]) {}

  void begin(std::size_t block) {
    low_scales_ = _mm512_loadu_ps(w_->row_scales() + block * block_rows);
    high_scales_ = _mm512_loadu_ps(w_->row_scales() + block * block_rows + 16);
  }

  [[gnu::always_inline]] void scale(std::size_t m, const std::int32_t* sums, __m512& low,
                                    __m512& high) const {
    const __m512i excess = _mm512_slli_epi32(_mm512_set1_epi32(x_.row_sum()[m]), 7);
    const __m512 factor = _mm512_set1_ps(x_.row_scale()[m]);
    low = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_load_si512(sums), excess)),
                        _mm512_mul_ps(factor, low_scales_));
    high = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_load_si512(sums + 16), excess)),
                         _mm512_mul_ps(factor, high_scales_));
  }

 private:
  activation_rows x_;
  const head_matrix* w_;
  __m512 low_scales_{};
  __m512 high_scales_{};
};

/// Writes the products of a visit, or adds them, while the next one is computed.
template <typename Scaling, bool Adds>
class product_rows {
 public:
  product_rows(const Scaling& scaling, float* y, std::size_t y_stride, std::size_t rows)
      : scaling_(scaling), y_(y), y_stride_(y_stride), rows_(rows) {}

  /// `sums` hold those of tokens [first, last) with a block. What was to be written before has been.
  void begin(const std::int32_t* sums, std::size_t block, std::size_t first, std::size_t last) {
    const std::size_t row = block * block_rows;
    const std::size_t rows = rows_ - row;
    low_rows_ = rows < 16 ? first_rows(rows) : all_rows;
    high_rows_ = rows < 16 ? 0 : rows < 32 ? first_rows(rows - 16) : all_rows;
    scaling_.begin(block);
    sums_ = sums;
    to_ = y_ + first * y_stride_ + row;
    token_ = first;
    last_ = last;
  }

  /// Writes one token's, if any are left.
  [[gnu::always_inline]] void write_some() {
    if (token_ < last_) write_one();
  }

  void finish() {
    while (token_ < last_) write_one();
  }

 private:
  static constexpr std::uint16_t all_rows = 0xFFFF;
  static std::uint16_t first_rows(std::size_t n) { return static_cast<std::uint16_t>((1U << n) - 1); }

  [[gnu::always_inline]] void write_one() {
    constexpr std::size_t tokens_ahead = 8;
    prefetch_to_write(to_ + tokens_ahead * y_stride_);
    prefetch_to_write(to_ + tokens_ahead * y_stride_ + 16);
    __m512 low;
    __m512 high;
    scaling_.scale(token_, sums_, low, high);
    write(to_, low_rows_, low);
    write(to_ + 16, high_rows_, high);
    sums_ += block_rows;
    to_ += y_stride_;
    ++token_;
  }

  [[gnu::always_inline]] static void write(float* to, std::uint16_t rows, __m512 products) {
    if constexpr (Adds) products = _mm512_add_ps(_mm512_maskz_loadu_ps(rows, to), products);
    _mm512_mask_storeu_ps(to, rows, products);
  }

  Scaling scaling_;
  float* y_;
  std::size_t y_stride_;
  std::size_t rows_;
  const std::int32_t* sums_ = nullptr;
  float* to_ = nullptr;
  std::size_t token_ = 0;
  std::size_t last_ = 0;
  std::uint16_t low_rows_ = 0;
  std::uint16_t high_rows_ = 0;
};

/// y = W x.
struct ternary_product {
  using matrix = ternary_matrix;
  using tiles = ternary_tiles;
  using writer = product_rows<ternary_scaling, false>;
  static constexpr std::size_t matrices = 1;
};

/// y += W x.
struct ternary_addition : ternary_product {
  using writer = product_rows<ternary_scaling, true>;
};

/// y = relu(W0 x)^2 * (W1 x).
struct gated_product : ternary_product {
  using writer = product_rows<gated_scaling, false>;
  static constexpr std::size_t matrices = 2;
};

/// y = W x with an int8 head.
struct head_product {
  using matrix = head_matrix;
  using tiles = head_tiles;
  using writer = product_rows<head_scaling, false>;
  static constexpr std::size_t matrices = 1;
};

}  // namespace
}  // namespace bitnet::kernels
