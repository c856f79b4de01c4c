#pragma once

#include "kernels/x86/amx_operands.hpp"

#include <immintrin.h>

#include <array>

// Tiles: C (16 tokens x 16 rows of W, int32) += A (16 tokens x 64 columns, int8) . B (64 columns x 16 rows,
// uint8 in the order [4 columns][row][column]). A comes from activations in tiles; B from weights that are
// stored so, or from packed ones, unpacked just in time into a small ring in the L1 cache.
//
// Three A tiles share two B tiles: 5.3 stores of unpacked bytes a product. Everything in the loop over the
// steps is inlined and in registers: with calls and pointers kept in memory it takes a fifth longer. Between
// the products of one visit, the sums of the visit before are written and the first steps of the next are
// unpacked. docs/kernels.md says what limits and what was tried.
//
// Included by each unit that multiplies on tiles; everything has internal linkage on purpose
// (kernels/CMakeLists.txt). `Product` says what is multiplied and what becomes of the sums: `matrix`, of
// which it takes `matrices`; `tiles`, its B tiles (amx_operands.hpp); `writer`, a product_rows.

namespace bitnet::kernels {

namespace {

// Tiles of tokens that share a visit of the weights: 192 tokens, so that their activations (1.3 MB for 6912
// columns) stay in a 2 MB L2 cache.
constexpr std::size_t most_token_tiles = 12;

/// A place in a period.
template <std::size_t S>
struct slot {
  static constexpr std::size_t value = S;
};

/// GCC 12's tile loads do not say that they read memory: without this it could be written after them.
[[gnu::always_inline]] inline void writes_done() {
  asm volatile("" : : : "memory");
}

// GCC inlines a lambda that is called in several places only where it must.
#define BITNET_ALWAYS_INLINE __attribute__((always_inline))

template <typename Product>
class multiplication {
 public:
  using matrix = typename Product::matrix;

  template <typename... Scaling>
  multiplication(std::array<const matrix*, Product::matrices> w, const activation_rows& x, float* y,
                 std::size_t y_stride, const Scaling&... scaling)
      : w_(w),
        x_(x),
        steps_(w[0]->padded_cols() / step_cols),
        out_{writer({w_.data(), x, scaling...}, y, y_stride, w[0]->rows()),
             writer({w_.data(), x, scaling...}, y, y_stride, w[0]->rows())} {}

  /// Tiles of tokens [tiles.first, tiles.last): all that there are, or two and more.
  void run(work_range tiles, work_range blocks) {
    if (x_.rows() <= tile_tokens) return run_one_tile(blocks);
    visits all(tiles, blocks, Product::matrices);
    b_tiles b(w_.data(), all, memory_[0]);
    for (; !all.done(); ++all) {
      b.begin(*all);
      if (all->tiles == 3)
        sum_three(*all, b);
      else
        sum_two(*all, b);
      const std::size_t first = all->first_tile * tile_tokens;
      const std::size_t last = first + all->tiles * tile_tokens;
      if (all->matrix + 1 == Product::matrices)
        out_[0].begin(sums_.row(0, 0), all->block, first, last < x_.rows() ? last : x_.rows());
    }
    out_[0].finish();
  }

 private:
  using b_tiles = typename Product::tiles;
  using writer = typename Product::writer;

  /// 48 tokens: three A tiles in turn in one register, two B tiles, seven tile loads for six products.
  [[gnu::noinline]] void sum_three(const visit& v, b_tiles& tiles) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    const std::size_t next_tile = steps_ * tile_bytes;
    for_each_step(v, tiles, [next_tile](auto at, const std::int8_t* a, b_tiles& b) BITNET_ALWAYS_INLINE {
      constexpr std::size_t s = decltype(at)::value;
      const std::int8_t* const a0 = a + s * tile_bytes;
      const std::int8_t* const a1 = a0 + next_tile;
      const std::int8_t* const a2 = a1 + next_tile;
      _tile_loadd(7, b.template tile<s>(0), 64);
      _tile_loadd(6, a0, 64);
      _tile_dpbsud(0, 6, 7);
      b.template prepare<s>(0, 2);
      _tile_loadd(6, a1, 64);
      _tile_dpbsud(2, 6, 7);
      b.template prepare<s>(2, 1);
      _tile_loadd(6, a2, 64);
      _tile_dpbsud(4, 6, 7);
      b.template prepare<s>(3, 1);
      _tile_loadd(7, b.template tile<s>(1), 64);
      _tile_dpbsud(5, 6, 7);
      b.template prepare<s>(4, 2);
      _tile_loadd(6, a1, 64);
      _tile_dpbsud(3, 6, 7);
      b.template prepare<s>(6, 1);
      _tile_loadd(6, a0, 64);
      _tile_dpbsud(1, 6, 7);
      b.template prepare<s>(7, 1);
    });
    std::int32_t* const sums = sums_.row(v.matrix, 0);
    _tile_stored(0, sums, sum_rows::stride);
    _tile_stored(1, sums + 16, sum_rows::stride);
    _tile_stored(2, sums + tile_tokens * block_rows, sum_rows::stride);
    _tile_stored(3, sums + tile_tokens * block_rows + 16, sum_rows::stride);
    _tile_stored(4, sums + 2 * tile_tokens * block_rows, sum_rows::stride);
    _tile_stored(5, sums + 2 * tile_tokens * block_rows + 16, sum_rows::stride);
  }

  /// 32 tokens: two A tiles, two B tiles.
  [[gnu::noinline]] void sum_two(const visit& v, b_tiles& tiles) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const std::size_t next_tile = steps_ * tile_bytes;
    for_each_step(v, tiles, [next_tile](auto at, const std::int8_t* a, b_tiles& b) BITNET_ALWAYS_INLINE {
      constexpr std::size_t s = decltype(at)::value;
      const std::int8_t* const a0 = a + s * tile_bytes;
      _tile_loadd(4, a0, 64);
      _tile_loadd(6, b.template tile<s>(0), 64);
      _tile_dpbsud(0, 4, 6);
      b.template prepare<s>(0, 2);
      _tile_loadd(7, b.template tile<s>(1), 64);
      _tile_dpbsud(1, 4, 7);
      b.template prepare<s>(2, 2);
      _tile_loadd(5, a0 + next_tile, 64);
      _tile_dpbsud(2, 5, 6);
      b.template prepare<s>(4, 2);
      _tile_dpbsud(3, 5, 7);
      b.template prepare<s>(6, 2);
    });
    std::int32_t* const sums = sums_.row(v.matrix, 0);
    _tile_stored(0, sums, sum_rows::stride);
    _tile_stored(1, sums + 16, sum_rows::stride);
    _tile_stored(2, sums + tile_tokens * block_rows, sum_rows::stride);
    _tile_stored(3, sums + tile_tokens * block_rows + 16, sum_rows::stride);
  }

  /// Up to 16 tokens: memory limits, and delivers more to two streams. They are the two matrices, or of one
  /// the first and the second half of the blocks. The same A tile serves both.
  void run_one_tile(work_range blocks) {
    constexpr bool halves = Product::matrices == 1;
    const std::size_t pairs = (blocks.last - blocks.first) / (halves ? 2 : 1);
    const std::size_t second = halves ? blocks.first + pairs : blocks.first;
    if (pairs != 0) {
      visits visits0({0, 1}, {blocks.first, blocks.first + pairs}, 1);
      visits visits1({0, 1}, {second, second + pairs}, 1);
      b_tiles b0(w_.data(), visits0, memory_[0]);
      b_tiles b1(w_.data() + Product::matrices - 1, visits1, memory_[1]);
      for (; !visits0.done(); ++visits0, ++visits1) {
        b0.begin(*visits0);
        b1.begin(*visits1);
        sum_pair(b0, b1);
        out_[0].begin(sums_.row(0, 0), visits0->block, 0, x_.rows());
        if constexpr (halves) out_[1].begin(sums_.row(1, 0), visits1->block, 0, x_.rows());
      }
    }
    if (second + pairs != blocks.last) {
      const visits last({0, 1}, {second + pairs, blocks.last}, 1);
      b_tiles b(w_.data(), last, memory_[0]);
      b.begin(*last);
      sum_one(*last, b);
      out_[1].finish();
      out_[0].begin(sums_.row(0, 0), last->block, 0, x_.rows());
    }
    out_[0].finish();
    out_[1].finish();
  }

  /// 16 tokens with two blocks.
  [[gnu::noinline]] void sum_pair(b_tiles& tiles0, b_tiles& tiles1) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    b_tiles b0 = tiles0;
    b_tiles b1 = tiles1;
    writer out0 = out_[0];
    writer out1 = out_[1];
    const auto step = [&](auto at, const std::int8_t* a) BITNET_ALWAYS_INLINE {
      constexpr std::size_t s = decltype(at)::value;
      _tile_loadd(4, a + s * tile_bytes, 64);
      // With one tile load for four products, it pays.
      for (std::size_t line = 0; line < tile_bytes; line += 64) prefetch(a + (s + 2) * tile_bytes + line);
      _tile_loadd(6, b0.template tile<s>(0), 64);
      _tile_dpbsud(0, 4, 6);
      b0.template prepare<s>(0, 4);
      _tile_loadd(7, b0.template tile<s>(1), 64);
      _tile_dpbsud(1, 4, 7);
      b0.template prepare<s>(4, 4);
      out0.write_some();
      _tile_loadd(6, b1.template tile<s>(0), 64);
      _tile_dpbsud(2, 4, 6);
      b1.template prepare<s>(0, 4);
      _tile_loadd(7, b1.template tile<s>(1), 64);
      _tile_dpbsud(3, 4, 7);
      b1.template prepare<s>(4, 4);
      out1.write_some();
    };
    for_each_step(x_.step(0, 0), step, b0, b1);
    out0.finish();
    out1.finish();
    tiles0 = b0;
    tiles1 = b1;
    out_[0] = out0;
    out_[1] = out1;
    _tile_stored(0, sums_.row(0, 0), sum_rows::stride);
    _tile_stored(1, sums_.row(0, 0) + 16, sum_rows::stride);
    _tile_stored(2, sums_.row(1, 0), sum_rows::stride);
    _tile_stored(3, sums_.row(1, 0) + 16, sum_rows::stride);
  }

  /// 16 tokens with one block.
  [[gnu::noinline]] void sum_one(const visit& v, b_tiles& tiles) {
    _tile_zero(0);
    _tile_zero(1);
    for_each_step(v, tiles, [](auto at, const std::int8_t* a, b_tiles& b) BITNET_ALWAYS_INLINE {
      constexpr std::size_t s = decltype(at)::value;
      _tile_loadd(4, a + s * tile_bytes, 64);
      _tile_loadd(6, b.template tile<s>(0), 64);
      _tile_dpbsud(0, 4, 6);
      b.template prepare<s>(0, 4);
      _tile_loadd(7, b.template tile<s>(1), 64);
      _tile_dpbsud(1, 4, 7);
      b.template prepare<s>(4, 4);
    });
    _tile_stored(0, sums_.row(0, 0), sum_rows::stride);
    _tile_stored(1, sums_.row(0, 0) + 16, sum_rows::stride);
  }

  /// step(slot, A tile of the period's first step) for all steps of visits whose B tiles `b` are.
  template <typename Step, typename... Tiles>
  [[gnu::always_inline]] void for_each_step(const std::int8_t* a, Step step, Tiles&... b) {
    const auto one = [&](auto at) BITNET_ALWAYS_INLINE {
      writes_done();
      step(at, a);
    };
    std::size_t s = 0;
    for (; s + period_steps <= steps_; s += period_steps) {
      one(slot<0>());
      one(slot<1>());
      one(slot<2>());
      one(slot<3>());
      (b.template advance<period_steps>(), ...);
      a += period_steps * tile_bytes;
    }
    for (; s < steps_; ++s) {
      one(slot<0>());
      (b.template advance<1>(), ...);
      a += tile_bytes;
    }
  }

  /// The same for one visit: step(slot, A tile, B tiles); between the steps, what the visit before has summed
  /// is written.
  template <typename Step>
  [[gnu::always_inline]] void for_each_step(const visit& v, b_tiles& tiles, Step step) {
    // Copies, that the loop can keep in registers.
    b_tiles b = tiles;
    writer out = out_[0];
    const auto step_and_write = [&](auto at, const std::int8_t* a) BITNET_ALWAYS_INLINE {
      step(at, a, b);
      out.write_some();
    };
    for_each_step(x_.step(v.first_tile * tile_tokens, 0), step_and_write, b);
    out.finish();
    tiles = b;
    out_[0] = out;
  }

  std::array<const matrix*, Product::matrices> w_;
  const activation_rows& x_;
  std::size_t steps_;
  writer out_[2];
  typename b_tiles::memory memory_[2];
  sum_rows sums_;
};

/// `scaling`: what else the product's scaling wants to know.
template <typename Product, typename... Scaling>
void multiply(std::array<const typename Product::matrix*, Product::matrices> w, const activation_rows& x,
              float* y, std::size_t y_stride, work_range blocks, const Scaling&... scaling) {
  if (blocks.first == blocks.last || x.rows() == 0) return;
  const std::size_t tiles = (x.rows() + tile_tokens - 1) / tile_tokens;
  const std::size_t parts = (tiles + most_token_tiles - 1) / most_token_tiles;
  configure_tiles();
  multiplication<Product> product(w, x, y, y_stride, scaling...);
  for (std::size_t p = 0; p < parts; ++p) product.run({tiles * p / parts, tiles * (p + 1) / parts}, blocks);
  if constexpr (Product::writer::streams)
    _mm_sfence();  // before the barrier that tells others of the results
  // Tiles in use would be saved at every context switch.
  _tile_release();
}

}  // namespace
}  // namespace bitnet::kernels
