#include "kernels/matmul_variants.hpp"
#include "kernels/x86/amx_operands.hpp"
#include "kernels/x86/avx2_operators.hpp"
#include "kernels/x86/avx512_operators.hpp"

#include <immintrin.h>

// Tiles: C (16 tokens x 16 rows of W, int32) += A (16 tokens x 64 columns, int8) . B (64 columns x 16 rows,
// uint8 in the order [4 columns][row][column]). A comes from activations in tiles; B from the head as it is
// stored, or from the ternary codes unpacked just in time into a small ring in the L1 cache.
//
// Three A tiles share two B tiles: 5.3 stores of unpacked bytes a product instead of 8. Their activations
// come from the L2 cache, and prefetching them costs more than it gives: tile loads alone take most of what
// the load ports can do; four A tiles to one B tile, with half of the unpacking, wait for the L2 cache. So do
// the visits of a block that is unpacked once for all of them, into 80 KB, and its first visit takes three
// times as long. Unpacking costs half of the time, memory a fifth. Between the products of one visit, the
// sums of the visit before are written and the first steps of the next are unpacked: a tenth is gained where
// weights come from memory.

namespace bitnet::kernels {

namespace {

// Tiles of tokens that share a visit of the weights: 192 tokens, so that their activations (1.3 MB for 6912
// columns) stay in a 2 MB L2 cache.
constexpr std::size_t most_token_tiles = 12;
// Fewer tokens the vector units multiply as fast.
constexpr std::size_t min_tokens = 5;

/// Sums of a 16 x 16 tile, as TILESTORED leaves them.
struct sum_tile {
  alignas(64) std::int32_t values[tile_tokens][16];
};

/// The sums of one visit of a block, for up to 48 tokens: tile 2 t + half has the sums of token tile t with
/// 16 rows of the block. They are scaled and written when the next visit has been computed.
template <typename Product>
class outputs {
 public:
  outputs(const typename Product::matrix& w, const activation_rows& x, float* y, std::size_t y_stride)
      : w_(w), x_(x), y_(y), y_stride_(y_stride) {}

  /// For the sums of tokens [m, m + tokens) with a block. What was to be written before is written.
  sum_tile* begin(std::size_t block, std::size_t m, std::size_t tokens) {
    finish();
    row_ = block * block_rows;
    const std::size_t rows = w_.rows() - row_;
    low_rows_ = rows < 16 ? rows : 16;
    high_rows_ = rows < 16 ? 0 : rows < 32 ? rows - 16 : 16;
    first_ = next_ = m;
    last_ = m + tokens;
    return sums_;
  }

  void finish() {
    while (next_ < last_) write_one();
  }

  /// Writes one token's of the visit before, between the products of this one.
  [[gnu::always_inline]] void write_some() {
    if (next_ < last_) write_one();
  }

 private:
  [[gnu::always_inline]] void write_one() {
    constexpr std::size_t tokens_ahead = 8;
    const std::size_t i = next_ - first_;
    const sum_tile* const tile = sums_ + i / tile_tokens * 2;
    float* const y = y_ + next_ * y_stride_ + row_;
    prefetch_to_write(y + tokens_ahead * y_stride_);
    prefetch_to_write(y + tokens_ahead * y_stride_ + 16);
    Product::store(w_, x_, next_, row_, 0, _mm512_load_si512(tile[0].values[i % tile_tokens]), y, low_rows_);
    Product::store(w_, x_, next_, row_ + 16, 1, _mm512_load_si512(tile[1].values[i % tile_tokens]), y + 16,
                   high_rows_);
    ++next_;
  }

  const typename Product::matrix& w_;
  const activation_rows& x_;
  float* y_;
  std::size_t y_stride_;
  std::size_t row_ = 0;
  std::size_t low_rows_ = 0;
  std::size_t high_rows_ = 0;
  std::size_t first_ = 0;
  std::size_t next_ = 0;
  std::size_t last_ = 0;
  sum_tile sums_[6];
};

/// After some 128 tile products without a tile store, the next store waits for about 900 cycles; a store now
/// and then, of a tile that is not being summed, avoids it.
constexpr std::size_t store_interval = 2 * period_steps;
template <std::size_t S>
bool stores(slot<S>, std::size_t period) {
  return S + 1 == period_steps && period % store_interval == period_steps;
}

/// The tile of tokens [m, m + 16) at a step.
template <std::size_t S>
const std::int8_t* a_tile(const activation_rows& x, std::size_t m, slot<S>, std::size_t period) {
  return x.step(m, 0) + period * tile_bytes + S * tile_bytes;
}

/// What comes after the last visit.
constexpr std::size_t no_block = static_cast<std::size_t>(-1);

/// Up to 16 tokens with one or two blocks: the same A tile serves up to four B tiles.
template <typename Product>
class one_token_tile {
 public:
  one_token_tile(const typename Product::matrix& w, const activation_rows& x, float* y, std::size_t y_stride)
      : x_(x), steps_(w.padded_cols() / step_cols), b0_(w, steps_), b1_(w, steps_), out_(w, x, y, y_stride) {}

  void multiply(work_range blocks) {
    for (std::size_t b = blocks.first; b < blocks.last; b += 2) {
      // An odd one goes twice: its second half of the work is not written.
      const std::size_t second = b + 1 < blocks.last ? b + 1 : b;
      const bool more = b + 2 < blocks.last;
      b0_.begin(b, more ? b + 2 : no_block);
      b1_.begin(second, more ? (b + 3 < blocks.last ? b + 3 : b + 2) : no_block);
      sum(b, second);
    }
    out_.finish();
  }

 private:
  void sum(std::size_t first, std::size_t second) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const auto step = [&](auto at, auto unpacking, std::size_t period) {
      const std::int8_t* const a = a_tile(x_, 0, at, period);
      _tile_loadd(4, a, 64);
      // Here, with one tile load for four products, it pays.
      for (std::size_t line = 0; line < tile_bytes; line += 64) prefetch(a + 2 * tile_bytes + line);
      _tile_loadd(6, b0_.tile(at, 0), 64);
      _tile_dpbsud(0, 4, 6);
      b0_.advance(at, unpacking, 0, 4);
      _tile_loadd(7, b0_.tile(at, 1), 64);
      _tile_dpbsud(1, 4, 7);
      b0_.advance(at, unpacking, 4, 4);
      _tile_loadd(6, b1_.tile(at, 0), 64);
      _tile_dpbsud(2, 4, 6);
      b1_.advance(at, unpacking, 0, 4);
      _tile_loadd(7, b1_.tile(at, 1), 64);
      _tile_dpbsud(3, 4, 7);
      b1_.advance(at, unpacking, 4, 4);
      out_.write_some();
      if (stores(at, period)) {
        sum_tile scratch;
        _tile_stored(4, scratch.values, 64);
      }
    };
    for_each_step(steps_, step, b0_, b1_);
    sum_tile* sums = out_.begin(first, 0, x_.rows());
    _tile_stored(0, sums[0].values, 64);
    _tile_stored(1, sums[1].values, 64);
    if (second == first) return;
    sums = out_.begin(second, 0, x_.rows());
    _tile_stored(2, sums[0].values, 64);
    _tile_stored(3, sums[1].values, 64);
  }

  const activation_rows& x_;
  std::size_t steps_;
  typename Product::tiles b0_;
  typename Product::tiles b1_;
  outputs<Product> out_;
};

/// More tokens: block by block, so that the packed weights come from the cache after the first visit.
template <typename Product>
class token_tiles {
 public:
  token_tiles(const typename Product::matrix& w, const activation_rows& x, float* y, std::size_t y_stride)
      : x_(x), steps_(w.padded_cols() / step_cols), b_(w, steps_), out_(w, x, y, y_stride) {}

  /// Token tiles [first, last), two at least.
  void multiply(std::size_t first, std::size_t last, work_range blocks) {
    for (std::size_t b = blocks.first; b < blocks.last; ++b)
      for (std::size_t t = first; t < last;) {
        const std::size_t tiles = last - t == 2 || last - t == 4 ? 2 : 3;
        const std::size_t next = t + tiles < last ? b : b + 1;
        b_.begin(b, next < blocks.last ? next : no_block);
        if (tiles == 2)
          sum_two(b, t * tile_tokens);
        else
          sum_three(b, t * tile_tokens);
        t += tiles;
      }
  }

  void finish() { out_.finish(); }

 private:
  /// 32 tokens from m, or as many of them as there are: two A tiles, two B tiles.
  void sum_two(std::size_t block, std::size_t m) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const auto step = [&](auto at, auto unpacking, std::size_t period) {
      _tile_loadd(4, a_tile(x_, m, at, period), 64);
      _tile_loadd(6, b_.tile(at, 0), 64);
      _tile_dpbsud(0, 4, 6);
      b_.advance(at, unpacking, 0, 2);
      _tile_loadd(7, b_.tile(at, 1), 64);
      _tile_dpbsud(1, 4, 7);
      b_.advance(at, unpacking, 2, 2);
      _tile_loadd(5, a_tile(x_, m + tile_tokens, at, period), 64);
      _tile_dpbsud(2, 5, 6);
      b_.advance(at, unpacking, 4, 2);
      _tile_dpbsud(3, 5, 7);
      b_.advance(at, unpacking, 6, 2);
      out_.write_some();
      if (stores(at, period)) {
        sum_tile scratch;
        _tile_stored(4, scratch.values, 64);
      }
    };
    for_each_step(steps_, step, b_);
    sum_tile* const sums = begin_sums(block, m, 2);
    _tile_stored(0, sums[0].values, 64);
    _tile_stored(1, sums[1].values, 64);
    _tile_stored(2, sums[2].values, 64);
    _tile_stored(3, sums[3].values, 64);
  }

  /// 48 tokens from m, or as many of them as there are: three A tiles in turn in one register, two B tiles.
  void sum_three(std::size_t block, std::size_t m) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    const auto step = [&](auto at, auto unpacking, std::size_t period) {
      const std::int8_t* const a0 = a_tile(x_, m, at, period);
      const std::int8_t* const a1 = a_tile(x_, m + tile_tokens, at, period);
      const std::int8_t* const a2 = a_tile(x_, m + 2 * tile_tokens, at, period);
      _tile_loadd(7, b_.tile(at, 0), 64);
      _tile_loadd(6, a0, 64);
      _tile_dpbsud(0, 6, 7);
      b_.advance(at, unpacking, 0, 2);
      _tile_loadd(6, a1, 64);
      _tile_dpbsud(2, 6, 7);
      b_.advance(at, unpacking, 2, 1);
      _tile_loadd(6, a2, 64);
      _tile_dpbsud(4, 6, 7);
      b_.advance(at, unpacking, 3, 1);
      _tile_loadd(7, b_.tile(at, 1), 64);
      _tile_dpbsud(5, 6, 7);
      b_.advance(at, unpacking, 4, 2);
      _tile_loadd(6, a1, 64);
      _tile_dpbsud(3, 6, 7);
      b_.advance(at, unpacking, 6, 1);
      _tile_loadd(6, a0, 64);
      _tile_dpbsud(1, 6, 7);
      b_.advance(at, unpacking, 7, 1);
      out_.write_some();
      if (stores(at, period)) {
        sum_tile scratch;
        _tile_stored(6, scratch.values, 64);
      }
    };
    for_each_step(steps_, step, b_);
    sum_tile* const sums = begin_sums(block, m, 3);
    _tile_stored(0, sums[0].values, 64);
    _tile_stored(1, sums[1].values, 64);
    _tile_stored(2, sums[2].values, 64);
    _tile_stored(3, sums[3].values, 64);
    _tile_stored(4, sums[4].values, 64);
    _tile_stored(5, sums[5].values, 64);
  }

  sum_tile* begin_sums(std::size_t block, std::size_t m, std::size_t tiles) {
    const std::size_t left = x_.rows() - m;
    return out_.begin(block, m, left < tiles * tile_tokens ? left : tiles * tile_tokens);
  }

  const activation_rows& x_;
  std::size_t steps_;
  typename Product::tiles b_;
  outputs<Product> out_;
};

template <typename Product>
void multiply(const typename Product::matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
              work_range blocks) {
  const std::size_t tiles = (x.rows() + tile_tokens - 1) / tile_tokens;
  configure_tiles();
  if (tiles == 1) {
    one_token_tile<Product>(w, x, y, y_stride).multiply(blocks);
  } else {
    token_tiles<Product> product(w, x, y, y_stride);
    const std::size_t parts = (tiles + most_token_tiles - 1) / most_token_tiles;
    for (std::size_t p = 0; p < parts; ++p)
      product.multiply(tiles * p / parts, tiles * (p + 1) / parts, blocks);
    product.finish();
  }
  // Tiles in use would be saved at every context switch.
  _tile_release();
}

void ternary_matmul(const ternary_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
                    work_range blocks) {
  if (x.layout() == activation_layout::rows)
    avx512::ternary_matmul(w, x, y, y_stride, blocks);
  else
    multiply<ternary_product>(w, x, y, y_stride, blocks);
}

void head_int8(const head_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
               work_range blocks) {
  if (x.layout() == activation_layout::rows)
    avx512::head_int8(w, x, y, y_stride, blocks);
  else
    multiply<head_product>(w, x, y, y_stride, blocks);
}

}  // namespace

const matmul_kernels amx_int8_matmul_kernels{.isa = instruction_set::amx_int8,
                                             .tiled_rows = min_tokens,
                                             .quantize_row = avx2::quantize_row,
                                             .ternary_matmul = ternary_matmul,
                                             .head_int8 = head_int8,
                                             .head_f16 = avx2::head_f16};

}  // namespace bitnet::kernels
