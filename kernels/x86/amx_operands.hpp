#pragma once

#include "kernels/matmul.hpp"
#include "kernels/x86/amx_tiles.hpp"

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

// The operands of products on tiles: where their B tiles come from and what becomes of their sums. Included
// by each unit that multiplies on tiles; everything has internal linkage on purpose (kernels/CMakeLists.txt).
// What the loops over the steps of a visit use is small enough to live in registers: a visit works on copies.

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

/// B tiles of a packed matrix. `Codes` says how it is packed: `matrix` its type, `step_bytes` of 64 columns
/// of a block, unpack(eighth, tiles) two rows of both tiles from an eighth of a step. A ring of unpacked
/// steps, one period long and filled three steps ahead, an eighth of a step at a time, so that the vector
/// units work between the tile products. What is unpacked follows the same visits, three steps ahead of them.
template <typename Codes>
class unpacked_tiles {
 public:
  using matrix = typename Codes::matrix;

  /// 8 KB: a larger ring would be pushed out of the L1 cache.
  struct memory {
    alignas(4096) std::uint8_t ring[period_steps * 2 * tile_bytes];
  };

  /// `w`: the matrices of the visits.
  unpacked_tiles(const matrix* const* w, const visits& all, memory& m)
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
  static constexpr std::size_t eighths = 8;
  static constexpr std::size_t eighth_bytes = Codes::step_bytes / eighths;
  static constexpr std::size_t prefetch_ahead = 1536;

  [[gnu::always_inline]] void unpack_to(std::uint8_t* slot, std::size_t first, std::size_t count) {
    for (std::size_t eighth = first; eighth < first + count; ++eighth) {
      const std::uint8_t* const packed = from_ + eighth * eighth_bytes;
      for (std::size_t at = 0; at < eighth_bytes; at += 64) prefetch(packed + at + prefetch_ahead);
      Codes::unpack(packed, slot + eighth * 128);
    }
  }

  [[gnu::always_inline]] void next_source() {
    from_ += Codes::step_bytes;
    if (--left_ == 0) next_visit();
  }

  /// After the last visit its block is unpacked again, for nothing.
  void next_visit() {
    visits next = visits_;
    if (!(++next).done()) visits_ = next;
    from_ = w_[visits_->matrix]->block(visits_->block);
    left_ = steps_;
  }

  const matrix* const* w_;
  std::size_t steps_;
  std::size_t left_;          ///< steps of the visit that are not unpacked yet
  visits visits_;             ///< at the one that is being unpacked
  const std::uint8_t* from_;  ///< the step to unpack
  std::uint8_t* slots_[period_steps];
};

/// Which rows of the halves of a block there are: only the last block may lack some.
struct block_halves {
  static constexpr std::uint16_t all = 0xFFFF;

  block_halves() = default;
  /// Of the block whose first row is so many before the end of the matrix.
  explicit block_halves(std::size_t rows) : low(first(rows)), high(rows < 16 ? 0 : first(rows - 16)) {}

  std::uint16_t low = 0;   ///< rows [0, 16)
  std::uint16_t high = 0;  ///< rows [16, 32)

 private:
  static std::uint16_t first(std::size_t n) {
    return n < 16 ? static_cast<std::uint16_t>((1U << n) - 1) : all;
  }
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

/// Writes the products of a visit, or adds them, while the next one is computed. `Streams`: past the caches,
/// for results that are so many that they would not stay there: a line that is written whole need not be read
/// first.
template <typename Scaling, bool Adds, bool Streams = false>
class product_rows {
 public:
  static constexpr bool streams = Streams;

  product_rows(const Scaling& scaling, float* y, std::size_t y_stride, std::size_t rows)
      : scaling_(scaling), y_(y), y_stride_(y_stride), rows_(rows) {}

  /// `sums` hold those of tokens [first, last) with a block. What was to be written before has been.
  void begin(const std::int32_t* sums, std::size_t block, std::size_t first, std::size_t last) {
    const std::size_t row = block * block_rows;
    present_ = block_halves(rows_ - row);
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
  [[gnu::always_inline]] void write_one() {
    constexpr std::size_t tokens_ahead = 8;
    if constexpr (!Streams) {
      prefetch_to_write(to_ + tokens_ahead * y_stride_);
      prefetch_to_write(to_ + tokens_ahead * y_stride_ + 16);
    }
    __m512 low;
    __m512 high;
    scaling_.scale(token_, sums_, low, high);
    write(to_, present_.low, low);
    write(to_ + 16, present_.high, high);
    sums_ += block_rows;
    to_ += y_stride_;
    ++token_;
  }

  [[gnu::always_inline]] static void write(float* to, std::uint16_t rows, __m512 products) {
    if constexpr (Adds) products = _mm512_add_ps(_mm512_maskz_loadu_ps(rows, to), products);
    if (Streams && rows == block_halves::all && reinterpret_cast<std::uintptr_t>(to) % 64 == 0)
      _mm512_stream_ps(to, products);
    else
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
  block_halves present_;
};

}  // namespace
}  // namespace bitnet::kernels
