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

/// Logits of 16 rows from `row` for the tokens [token, token + Tokens).
template <std::size_t Tokens>
void int8_rows(const head_matrix& w, const quantized_activations& x, std::size_t row, std::size_t token,
               float* y, std::size_t y_stride) {
  constexpr std::size_t prefetch_ahead = 4096;
  // The tiles of a block's two halves of 16 rows alternate.
  const std::uint8_t* tile = w.int8_block(row / block_rows) + row % block_rows / tile_rows * tile_bytes;
  const std::int8_t* q = x.row(token);
  const std::size_t q_stride = x.padded_cols();
  __m256i sums[Tokens][vectors] = {};
  for (std::size_t k = 0; k < w.padded_cols(); k += tile_cols, tile += 2 * tile_bytes) {
    for (std::size_t quad = 0; quad < tile_cols / 4; ++quad, q += 4) {
      const std::uint8_t* const chunk = tile + 64 * quad;
      prefetch(chunk + prefetch_ahead);
      __m256i a[Tokens];
#pragma GCC unroll 3
      for (std::size_t t = 0; t < Tokens; ++t) a[t] = broadcast_words(q + t * q_stride);
#pragma GCC unroll 4
      for (std::size_t i = 0; i < vectors; ++i) {
        const __m256i weights = load_words(chunk + 16 * i);
#pragma GCC unroll 3
        for (std::size_t t = 0; t < Tokens; ++t) {
          sums[t][i] = _mm256_add_epi32(sums[t][i], _mm256_madd_epi16(weights, a[t]));
          keep(sums[t][i]);
        }
      }
    }
  }
  const std::size_t rows = w.rows() - row < tile_rows ? w.rows() - row : tile_rows;
  for (std::size_t t = 0; t < Tokens; ++t) {
    const std::size_t m = token + t;
    // The stored weights are 128 too large.
    const __m256i excess = _mm256_slli_epi32(_mm256_set1_epi32(x.row_sum()[m]), 7);
    const __m256 row_scale = _mm256_set1_ps(x.row_scale()[m]);
    alignas(32) float out[tile_rows];
    for (std::size_t i = 0; i < 2; ++i) {
      const __m256i dots = _mm256_sub_epi32(join_rows(sums[t][2 * i], sums[t][2 * i + 1]), excess);
      const __m256 scale = _mm256_mul_ps(row_scale, _mm256_loadu_ps(w.row_scales() + row + 8 * i));
      _mm256_store_ps(out + 8 * i, _mm256_mul_ps(_mm256_cvtepi32_ps(dots), scale));
    }
    float* const to = y + m * y_stride + row;
    for (std::size_t r = 0; r < rows; ++r) to[r] = out[r];
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
  constexpr std::size_t prefetch_ahead = 2048;  // halves
  const std::size_t whole = w.cols() / reduction_lanes * reduction_lanes;
  __m256 low[Rows][Tokens] = {};
  __m256 high[Rows][Tokens] = {};
  for (std::size_t k = 0; k < whole; k += reduction_lanes) {
#pragma GCC unroll 4
    for (std::size_t r = 0; r < Rows; ++r) {
      const std::uint16_t* const weights = w.f16_row(row + r);
      if (k % 32 == 0) prefetch(weights + k + prefetch_ahead);
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
  for (std::size_t r = 0; r < Rows; ++r) {
    const std::uint16_t* const weights = w.f16_row(row + r);
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

void head_int8(const head_matrix& w, const quantized_activations& x, float* y, std::size_t y_stride,
               work_range blocks) {
  for (std::size_t block = blocks.first; block < blocks.last; ++block) {
    for (std::size_t row = block * block_rows; row < (block + 1) * block_rows && row < w.rows();
         row += tile_rows) {
      std::size_t m = 0;
      for (; m + 3 <= x.rows(); m += 3) int8_rows<3>(w, x, row, m, y, y_stride);
      if (x.rows() - m == 2) int8_rows<2>(w, x, row, m, y, y_stride);
      if (x.rows() - m == 1) int8_rows<1>(w, x, row, m, y, y_stride);
    }
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
