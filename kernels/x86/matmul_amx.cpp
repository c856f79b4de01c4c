#include "kernels/matmul_variants.hpp"
#include "kernels/x86/avx2_operators.hpp"
#include "kernels/x86/avx512_operators.hpp"

#include <immintrin.h>

#include <cstring>

// Tiles: C (16 tokens x 16 rows of W, int32) += A (16 tokens x 64 columns, int8) . B (64 columns x 16 rows,
// uint8 in the order [4 columns][row][column]). A comes straight from the activations; B from the head as it
// is stored, or from the ternary codes unpacked just in time into a small ring in the L1 cache.

namespace bitnet::kernels {

namespace {

constexpr std::size_t block_rows = 32;
static_assert(block_rows == ternary_matrix::block_rows && block_rows == head_matrix::block_rows());
constexpr std::size_t step_cols = 64;
constexpr std::size_t tile_bytes = 1024;
constexpr std::size_t tile_tokens = 16;
constexpr std::size_t token_block = 256;  // their activations stay in a 2 MB L2 cache
// Below this the vector units are as fast and the tiles need not be set up.
constexpr std::size_t min_tokens = 4;

/// The operand of LDTILECFG (Intel SDM volume 1, 18.3.2).
struct alignas(64) tile_config {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(tile_config) == 64);

/// Tiles 0..3 sum, 4 and 5 hold activations (A), 6 and 7 weights (B). `tokens` rows for the sums and A.
void configure_tiles(std::size_t tokens) {
  tile_config config;
  for (std::size_t t = 0; t < 8; ++t) {
    config.row_bytes[t] = 64;
    config.rows[t] = t < 6 ? static_cast<std::uint8_t>(tokens) : 16;
  }
  // GCC 12 does not know that the intrinsic reads memory and would drop the stores above.
  asm volatile("" : : "r"(&config) : "memory");
  _tile_loadconfig(&config);
}

inline void prefetch(const std::uint8_t* p) {
  _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
}

/// Unpacks chunks [first, first + 2) of a step of a ternary block into rows of its two B tiles: rows 0..15 of
/// the block as codes 0..2, rows 16..31 as codes scaled by 4.
[[gnu::always_inline]] inline void unpack_two_chunks(const std::uint8_t* step, std::size_t first,
                                                     std::uint8_t* tiles) {
  const __m512i low_field = _mm512_set1_epi8(0x03);
  const __m512i high_field = _mm512_set1_epi8(0x0C);
#pragma GCC unroll 2
  for (std::size_t chunk = first; chunk < first + 2; ++chunk) {
    const __m512i x = _mm512_loadu_si512(step + 64 * chunk);
    const __m512i z = _mm512_srli_epi16(x, 4);
    std::uint8_t* const to = tiles + 128 * chunk;
    _mm512_store_si512(to, _mm512_and_si512(x, low_field));
    _mm512_store_si512(to + 64, _mm512_and_si512(z, low_field));
    _mm512_store_si512(to + tile_bytes, _mm512_and_si512(x, high_field));
    _mm512_store_si512(to + tile_bytes + 64, _mm512_and_si512(z, high_field));
  }
}

/// Where the B tiles of a ternary block come from: a ring of unpacked steps, filled some steps ahead, a
/// quarter of a step at a time, so that the vector units work between the tile products.
class ternary_tiles {
 public:
  ternary_tiles(const ternary_matrix& w, std::size_t block, std::size_t steps)
      : packed_(w.block(block)), steps_(steps) {
    for (std::size_t s = 0; s < ahead && s < steps_; ++s)
      for (std::size_t quarter = 0; quarter < 4; ++quarter) fill(s, quarter);
  }

  const std::uint8_t* tile(std::size_t step, std::size_t half) const {
    return ring_ + step % ring_steps * 2 * tile_bytes + half * tile_bytes;
  }

  /// Unpacks a quarter of what `step` leaves room for.
  void advance(std::size_t step, std::size_t quarter) {
    if (step + ahead < steps_) fill(step + ahead, quarter);
  }

 private:
  static constexpr std::size_t ring_steps = 4;  // 8 KB: a larger ring is pushed out of the L1 cache
  static constexpr std::size_t ahead = 3;
  static constexpr std::size_t step_bytes = 512;
  static constexpr std::size_t prefetch_ahead = 2048;

  void fill(std::size_t step, std::size_t quarter) {
    const std::uint8_t* const from = packed_ + step * step_bytes;
    prefetch(from + prefetch_ahead + 128 * quarter);
    prefetch(from + prefetch_ahead + 128 * quarter + 64);
    unpack_two_chunks(from, 2 * quarter, ring_ + step % ring_steps * 2 * tile_bytes);
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
  void advance(std::size_t step, std::size_t quarter) const {
    constexpr std::size_t prefetch_ahead = 4 * tile_bytes;
    for (std::size_t line = 0; line < 8; ++line)
      prefetch(packed_ + 2 * step * tile_bytes + 512 * quarter + 64 * line + prefetch_ahead);
  }

 private:
  const std::uint8_t* packed_;
};

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

  static void store(const ternary_matrix& w, const quantized_activations& x, std::size_t m, std::size_t row,
                    __m512i sums, float* y) {
    // Codes of the second half of a block were unpacked scaled by 4.
    const __m512i codes = row % block_rows == 0 ? sums : _mm512_srai_epi32(sums, 2);
    scale_and_store(_mm512_sub_epi32(codes, _mm512_set1_epi32(x.row_sum()[m])),
                    _mm512_set1_ps(x.row_scale()[m] * w.scale()), y, w.rows() - row);
  }
};

struct head_product {
  using matrix = head_matrix;
  using tiles = head_tiles;

  static void store(const head_matrix& w, const quantized_activations& x, std::size_t m, std::size_t row,
                    __m512i sums, float* y) {
    // The stored weights are 128 too large.
    const __m512i excess = _mm512_slli_epi32(_mm512_set1_epi32(x.row_sum()[m]), 7);
    const __m512 scales =
        _mm512_mul_ps(_mm512_set1_ps(x.row_scale()[m]), _mm512_loadu_ps(w.row_scales() + row));
    scale_and_store(_mm512_sub_epi32(sums, excess), scales, y, w.rows() - row);
  }
};

/// Sums of a 16 x 16 tile, as TILESTORED leaves them.
struct sum_tile {
  alignas(64) std::int32_t values[tile_tokens][16];
};

/// Writes the outputs of `tokens` tokens from m for 16 rows of W.
template <typename Product>
void store_tile(const sum_tile& sums, const typename Product::matrix& w, const quantized_activations& x,
                std::size_t m, std::size_t tokens, std::size_t row, float* y, std::size_t y_stride) {
  if (row >= w.rows()) return;
  for (std::size_t t = 0; t < tokens; ++t)
    Product::store(w, x, m + t, row, _mm512_load_si512(sums.values[t]), y + (m + t) * y_stride + row);
}

/// After some 128 tile products without a tile store, the next store waits for about 900 cycles; a store now
/// and then, of a tile that is not being summed, avoids it.
constexpr std::size_t store_interval = 8;

/// Up to 16 tokens from m (the tiles are configured for so many) with one or two blocks: the same A tile
/// serves up to four B tiles.
template <typename Product>
void multiply_one_token_tile(const typename Product::matrix& w, const quantized_activations& x, std::size_t m,
                             std::size_t tokens, float* y, std::size_t y_stride, work_range blocks) {
  const std::size_t steps = w.padded_cols() / step_cols;
  const auto stride = static_cast<long>(x.row_stride());
  const std::size_t second = blocks.first + 1 < blocks.last ? blocks.first + 1 : blocks.first;
  typename Product::tiles b0(w, blocks.first, steps);
  typename Product::tiles b1(w, second, steps);
  sum_tile sums[4];
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (std::size_t s = 0; s < steps; ++s) {
    _tile_loadd(4, x.row(m) + s * step_cols, stride);
    _tile_loadd(6, b0.tile(s, 0), 64);
    _tile_dpbsud(0, 4, 6);
    b0.advance(s, 0);
    b0.advance(s, 1);
    _tile_loadd(7, b0.tile(s, 1), 64);
    _tile_dpbsud(1, 4, 7);
    b0.advance(s, 2);
    b0.advance(s, 3);
    _tile_loadd(6, b1.tile(s, 0), 64);
    _tile_dpbsud(2, 4, 6);
    b1.advance(s, 0);
    b1.advance(s, 1);
    _tile_loadd(7, b1.tile(s, 1), 64);
    _tile_dpbsud(3, 4, 7);
    b1.advance(s, 2);
    b1.advance(s, 3);
    if (s % store_interval == store_interval - 1) _tile_stored(4, sums, 64);
  }
  _tile_stored(0, sums[0].values, 64);
  _tile_stored(1, sums[1].values, 64);
  _tile_stored(2, sums[2].values, 64);
  _tile_stored(3, sums[3].values, 64);
  store_tile<Product>(sums[0], w, x, m, tokens, blocks.first * block_rows, y, y_stride);
  store_tile<Product>(sums[1], w, x, m, tokens, blocks.first * block_rows + 16, y, y_stride);
  if (second == blocks.first) return;
  store_tile<Product>(sums[2], w, x, m, tokens, second * block_rows, y, y_stride);
  store_tile<Product>(sums[3], w, x, m, tokens, second * block_rows + 16, y, y_stride);
}

/// 17 to 32 tokens from m with one block: two A tiles, two B tiles. The second A tile may reach past the last
/// token, into rows that `quantized_activations` keeps readable; their sums are not stored.
template <typename Product>
void multiply_two_token_tiles(const typename Product::matrix& w, const quantized_activations& x,
                              std::size_t m, std::size_t tokens, float* y, std::size_t y_stride,
                              std::size_t block) {
  const std::size_t steps = w.padded_cols() / step_cols;
  const auto stride = static_cast<long>(x.row_stride());
  typename Product::tiles b(w, block, steps);
  sum_tile sums[4];
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (std::size_t s = 0; s < steps; ++s) {
    _tile_loadd(4, x.row(m) + s * step_cols, stride);
    _tile_loadd(6, b.tile(s, 0), 64);
    _tile_dpbsud(0, 4, 6);
    b.advance(s, 0);
    _tile_loadd(7, b.tile(s, 1), 64);
    _tile_dpbsud(1, 4, 7);
    b.advance(s, 1);
    _tile_loadd(5, x.row(m + tile_tokens) + s * step_cols, stride);
    _tile_dpbsud(2, 5, 6);
    b.advance(s, 2);
    _tile_dpbsud(3, 5, 7);
    b.advance(s, 3);
    if (s % store_interval == store_interval - 1) _tile_stored(4, sums, 64);
  }
  _tile_stored(0, sums[0].values, 64);
  _tile_stored(1, sums[1].values, 64);
  _tile_stored(2, sums[2].values, 64);
  _tile_stored(3, sums[3].values, 64);
  const std::size_t row = block * block_rows;
  store_tile<Product>(sums[0], w, x, m, tile_tokens, row, y, y_stride);
  store_tile<Product>(sums[1], w, x, m, tile_tokens, row + 16, y, y_stride);
  store_tile<Product>(sums[2], w, x, m + tile_tokens, tokens - tile_tokens, row, y, y_stride);
  store_tile<Product>(sums[3], w, x, m + tile_tokens, tokens - tile_tokens, row + 16, y, y_stride);
}

/// More than 16 tokens: block by block, so that the packed weights come from the cache after the first visit.
template <typename Product>
void multiply_many(const typename Product::matrix& w, const quantized_activations& x, std::size_t first,
                   std::size_t last, float* y, std::size_t y_stride, work_range blocks) {
  // A rest of up to 16 tokens takes the path with one A tile, after the pairs.
  const std::size_t rest = (last - first) % (2 * tile_tokens);
  const std::size_t paired = rest <= tile_tokens ? last - rest : last;
  configure_tiles(tile_tokens);
  for (std::size_t b = blocks.first; b < blocks.last && paired != first; ++b) {
    for (std::size_t m = first; m < paired; m += 2 * tile_tokens) {
      const std::size_t tokens = paired - m < 2 * tile_tokens ? paired - m : 2 * tile_tokens;
      multiply_two_token_tiles<Product>(w, x, m, tokens, y, y_stride, b);
    }
  }
  if (paired == last) return;
  configure_tiles(last - paired);
  for (std::size_t b = blocks.first; b < blocks.last; b += 2)
    multiply_one_token_tile<Product>(w, x, paired, last - paired, y, y_stride, {b, blocks.last});
}

template <typename Product>
void multiply(const typename Product::matrix& w, const quantized_activations& x, float* y,
              std::size_t y_stride, work_range blocks) {
  for (std::size_t first = 0; first < x.rows(); first += token_block) {
    const std::size_t last = x.rows() - first < token_block ? x.rows() : first + token_block;
    multiply_many<Product>(w, x, first, last, y, y_stride, blocks);
  }
  // Tiles in use would be saved at every context switch.
  _tile_release();
}

void ternary_matmul(const ternary_matrix& w, const quantized_activations& x, float* y, std::size_t y_stride,
                    work_range blocks) {
  if (x.rows() < min_tokens) {
    avx512::ternary_matmul(w, x, y, y_stride, blocks);
    return;
  }
  multiply<ternary_product>(w, x, y, y_stride, blocks);
}

void head_int8(const head_matrix& w, const quantized_activations& x, float* y, std::size_t y_stride,
               work_range blocks) {
  if (x.rows() < min_tokens) {
    avx512::head_int8(w, x, y, y_stride, blocks);
    return;
  }
  multiply<head_product>(w, x, y, y_stride, blocks);
}

}  // namespace

const matmul_kernels amx_int8_matmul_kernels{.isa = instruction_set::amx_int8,
                                             .quantize_row = avx2::quantize_row,
                                             .ternary_matmul = ternary_matmul,
                                             .head_int8 = head_int8,
                                             .head_f16 = avx2::head_f16};

}  // namespace bitnet::kernels
