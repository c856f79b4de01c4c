#include "kernels/reduction.hpp"
#include "kernels/x86/avx2_operators.hpp"

#include <immintrin.h>

namespace bitnet::kernels::avx2 {

namespace {

constexpr std::size_t block_rows = head_matrix::block_rows();
constexpr std::size_t tile_rows = 16;
constexpr std::size_t tile_cols = 64;
constexpr std::size_t tile_bytes = tile_rows * tile_cols;
constexpr std::size_t vectors = 4;  // vectors of four rows in a tile

/// Pins a sum to its register (see ternary_256.hpp).
inline void keep(__m256i& sum) {
  asm("" : "+x"(sum));
}
inline void keep(__m256& sum) {
  asm("" : "+x"(sum));
}

inline void prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}

/// Four rows x four columns of a tile, widened to words so that products cannot saturate.
inline __m256i load_words(const std::uint8_t* p) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

/// The same four activations, widened, for each of four rows.
inline __m256i broadcast_words(const std::int8_t* q) {
  return _mm256_broadcastq_epi64(_mm_cvtepi8_epi16(_mm_loadu_si32(q)));
}

/// Adds the two partial sums of each row: eight rows in order.
inline __m256i join_rows(__m256i rows_0_3, __m256i rows_4_7) {
  return _mm256_permute4x64_epi64(_mm256_hadd_epi32(rows_0_3, rows_4_7), 0xD8);
}

/// Logits of up to 16 rows from `row` of token m; y is the token's row of the output.
void store_logits(const head_matrix& w, const activation_rows& x, std::size_t row, std::size_t m,
                  const __m256i (&sums)[vectors], float* y) {
  // The stored weights are 128 too large.
  const __m256i excess = _mm256_slli_epi32(_mm256_set1_epi32(x.row_sum()[m]), 7);
  const __m256 row_scale = _mm256_set1_ps(x.row_scale()[m]);
  alignas(32) float out[tile_rows];
  const auto store_eight = [&](std::size_t r, __m256i dots) {
    const __m256 scale = _mm256_mul_ps(row_scale, _mm256_loadu_ps(w.row_scales() + row + r));
    _mm256_store_ps(out + r, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(dots, excess)), scale));
  };
  store_eight(0, join_rows(sums[0], sums[1]));
  store_eight(8, join_rows(sums[2], sums[3]));
  for (std::size_t r = 0; r < tile_rows && row + r < w.rows(); ++r) y[row + r] = out[r];
}

/// Adds the products of 64 columns of one tile with `Tokens` rows of activations from q.
template <std::size_t Tokens>
[[gnu::always_inline]] inline void add_tile(const std::uint8_t* tile, const std::int8_t* q,
                                            std::size_t q_stride, __m256i (&sums)[Tokens][vectors]) {
  __m256i acc[Tokens][vectors];
#pragma GCC unroll 3
  for (std::size_t t = 0; t < Tokens; ++t)
#pragma GCC unroll 4
    for (std::size_t i = 0; i < vectors; ++i) acc[t][i] = sums[t][i];
  for (std::size_t quad = 0; quad < tile_cols / 4; ++quad, tile += 64, q += 4) {
    __m256i a[Tokens];
#pragma GCC unroll 3
    for (std::size_t t = 0; t < Tokens; ++t) a[t] = broadcast_words(q + t * q_stride);
#pragma GCC unroll 4
    for (std::size_t i = 0; i < vectors; ++i) {
      const __m256i weights = load_words(tile + 16 * i);
#pragma GCC unroll 3
      for (std::size_t t = 0; t < Tokens; ++t) {
        acc[t][i] = _mm256_add_epi32(acc[t][i], _mm256_madd_epi16(weights, a[t]));
        keep(acc[t][i]);
      }
    }
  }
#pragma GCC unroll 3
  for (std::size_t t = 0; t < Tokens; ++t)
#pragma GCC unroll 4
    for (std::size_t i = 0; i < vectors; ++i) sums[t][i] = acc[t][i];
}

/// Logits of a range of blocks for the tokens [token, token + Tokens). Adjacent blocks are walked side by
/// side: several streams read memory faster than one, and faster than with prefetches.
template <std::size_t Tokens>
void int8_blocks(const head_matrix& w, const activation_rows& x, std::size_t token, float* y,
                 std::size_t y_stride, work_range blocks) {
  constexpr std::size_t streams = Tokens == 1 ? 4 : 1;
  const std::size_t block_bytes = w.padded_cols() * block_rows;
  for (std::size_t block = blocks.first; block < blocks.last; block += streams) {
    const std::size_t n = blocks.last - block < streams ? blocks.last - block : streams;
    __m256i sums[streams][2][Tokens][vectors] = {};
    const std::uint8_t* tile = w.int8_block(block);
    const std::int8_t* q = x.row(token);
    for (std::size_t k = 0; k < w.padded_cols(); k += tile_cols, tile += 2 * tile_bytes, q += tile_cols) {
      for (std::size_t s = 0; s < n; ++s) {
        add_tile<Tokens>(tile + s * block_bytes, q, x.row_stride(), sums[s][0]);
        add_tile<Tokens>(tile + s * block_bytes + tile_bytes, q, x.row_stride(), sums[s][1]);
      }
    }
    for (std::size_t s = 0; s < n; ++s)
      for (std::size_t h = 0; h < 2; ++h)
        for (std::size_t t = 0; t < Tokens; ++t)
          store_logits(w, x, (block + s) * block_rows + h * tile_rows, token + t, sums[s][h][t],
                       y + (token + t) * y_stride);
  }
}

/// Weights k..k+7 of a row.
inline __m256 load_halves(const std::uint16_t* row, std::size_t k) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + k)));
}

/// Logits of `Rows` rows for `Tokens` tokens; x and y point at the first token.
template <std::size_t Rows, std::size_t Tokens>
void f16_rows(const head_matrix& w, std::size_t row, const float* x, std::size_t x_stride, float* y,
              std::size_t y_stride) {
  const std::size_t whole = w.cols() / reduction_lanes * reduction_lanes;
  __m256 low[Rows][Tokens] = {};
  __m256 high[Rows][Tokens] = {};
  for (std::size_t k = 0; k < whole; k += reduction_lanes) {
#pragma GCC unroll 4
    for (std::size_t r = 0; r < Rows; ++r) {
      const std::uint16_t* const weights = w.f16_row(row + r);
      const __m256 w_low = load_halves(weights, k);
      const __m256 w_high = load_halves(weights, k + 8);
#pragma GCC unroll 2
      for (std::size_t t = 0; t < Tokens; ++t) {
        low[r][t] = _mm256_fmadd_ps(w_low, _mm256_loadu_ps(x + t * x_stride + k), low[r][t]);
        keep(low[r][t]);
        high[r][t] = _mm256_fmadd_ps(w_high, _mm256_loadu_ps(x + t * x_stride + k + 8), high[r][t]);
        keep(high[r][t]);
      }
    }
  }
#pragma GCC unroll 4
  for (std::size_t r = 0; r < Rows; ++r) {
    const std::uint16_t* const weights = w.f16_row(row + r);
#pragma GCC unroll 2
    for (std::size_t t = 0; t < Tokens; ++t) {
      alignas(32) float lanes[reduction_lanes];
      _mm256_store_ps(lanes, low[r][t]);
      _mm256_store_ps(lanes + 8, high[r][t]);
      for (std::size_t k = whole; k < w.cols(); ++k)
        lanes[k - whole] = __builtin_fmaf(_cvtsh_ss(weights[k]), x[t * x_stride + k], lanes[k - whole]);
      y[t * y_stride + row + r] = reduce_lanes(lanes);
    }
  }
}

}  // namespace

void head_int8(const head_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
               work_range blocks) {
  if (x.rows() == 1) {
    int8_blocks<1>(w, x, 0, y, y_stride, blocks);
    return;
  }
  // Block by block, so that later tokens find the weights in the cache.
  for (std::size_t block = blocks.first; block < blocks.last; ++block) {
    std::size_t m = 0;
    for (; m + 2 <= x.rows(); m += 2) int8_blocks<2>(w, x, m, y, y_stride, {block, block + 1});
    if (m < x.rows()) int8_blocks<1>(w, x, m, y, y_stride, {block, block + 1});
  }
}

void head_f16(const head_matrix& w, const float* x, std::size_t x_stride, std::size_t x_rows, float* y,
              std::size_t y_stride, work_range blocks) {
  const std::size_t end = blocks.last * block_rows;
  const std::size_t last = end < w.rows() ? end : w.rows();
  std::size_t row = blocks.first * block_rows;
  for (; row + 4 <= last; row += 4) {
    std::size_t m = 0;
    for (; m + 2 <= x_rows; m += 2) {
      f16_rows<2, 2>(w, row, x + m * x_stride, x_stride, y + m * y_stride, y_stride);
      f16_rows<2, 2>(w, row + 2, x + m * x_stride, x_stride, y + m * y_stride, y_stride);
    }
    if (m < x_rows) f16_rows<4, 1>(w, row, x + m * x_stride, x_stride, y + m * y_stride, y_stride);
  }
  for (; row < last; ++row)
    for (std::size_t m = 0; m < x_rows; ++m)
      f16_rows<1, 1>(w, row, x + m * x_stride, x_stride, y + m * y_stride, y_stride);
}

}  // namespace bitnet::kernels::avx2
