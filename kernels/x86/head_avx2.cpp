#include "kernels/reduction.hpp"
#include "kernels/x86/avx2_operators.hpp"

#include <immintrin.h>

namespace bitnet::kernels::avx2 {

namespace {

constexpr std::size_t block_rows = head_matrix::block_rows();
constexpr std::size_t ternary_step = 64;

/// Four rows x four columns of a chunk: bytes to words, so that a multiply by activations cannot saturate.
inline __m256i load_words(const std::uint8_t* p) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

/// Dot products of 16 rows with one token over 64 columns, added to sums: sums[i] holds rows 4i..4i+3, two
/// partial sums a row.
inline void int8_tile(const std::uint8_t* tile, const std::int8_t* q, __m256i (&sums)[4]) {
  for (std::size_t quad = 0; quad < 16; ++quad, tile += 64, q += 4) {
    const __m128i four = _mm_cvtepi8_epi16(_mm_loadu_si32(q));
    const __m256i a = _mm256_broadcastq_epi64(four);
    for (std::size_t i = 0; i < 4; ++i)
      sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(load_words(tile + 16 * i), a));
  }
}

/// Adds the two partial sums of each row: eight rows in order.
inline __m256i join_rows(__m256i rows_0_3, __m256i rows_4_7) {
  return _mm256_permute4x64_epi64(_mm256_hadd_epi32(rows_0_3, rows_4_7), 0xD8);
}

}  // namespace

void head_int8(const head_matrix& w, const quantized_activations& x, float* y, std::size_t y_stride,
               work_range blocks) {
  for (std::size_t block = blocks.first; block < blocks.last; ++block) {
    const std::size_t first = block * block_rows;
    const std::size_t rows = w.rows() - first < block_rows ? w.rows() - first : block_rows;
    for (std::size_t m = 0; m < x.rows(); ++m) {
      const std::uint8_t* tile = w.int8_block(block);
      const std::int8_t* const q = x.row(m);
      __m256i low[4] = {};
      __m256i high[4] = {};
      for (std::size_t k = 0; k < w.padded_cols(); k += ternary_step, tile += 2048) {
        int8_tile(tile, q + k, low);
        int8_tile(tile + 1024, q + k, high);
      }
      const __m256i offset = _mm256_set1_epi32(head_matrix::int8_weight_offset * x.row_sum()[m]);
      const __m256 row_scale = _mm256_set1_ps(x.row_scale()[m]);
      const __m256i dots[4] = {join_rows(low[0], low[1]), join_rows(low[2], low[3]),
                               join_rows(high[0], high[1]), join_rows(high[2], high[3])};
      alignas(32) float out[block_rows];
      for (std::size_t i = 0; i < 4; ++i) {
        const __m256 scale = _mm256_mul_ps(row_scale, _mm256_loadu_ps(w.row_scales() + first + 8 * i));
        _mm256_store_ps(out + 8 * i,
                        _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(dots[i], offset)), scale));
      }
      for (std::size_t r = 0; r < rows; ++r) y[m * y_stride + first + r] = out[r];
    }
  }
}

void head_f16(const head_matrix& w, const float* x, std::size_t x_stride, std::size_t x_rows, float* y,
              std::size_t y_stride, work_range blocks) {
  const std::size_t first = blocks.first * block_rows;
  const std::size_t end = blocks.last * block_rows;
  const std::size_t last = end < w.rows() ? end : w.rows();
  const std::size_t whole = w.cols() / reduction_lanes * reduction_lanes;
  for (std::size_t r = first; r < last; ++r) {
    const std::uint16_t* const row = w.f16_row(r);
    const auto weights = [&](std::size_t k) {
      return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + k)));
    };
    for (std::size_t m = 0; m < x_rows; ++m) {
      const float* const token = x + m * x_stride;
      __m256 low = _mm256_setzero_ps();
      __m256 high = _mm256_setzero_ps();
      for (std::size_t k = 0; k < whole; k += reduction_lanes) {
        low = _mm256_fmadd_ps(weights(k), _mm256_loadu_ps(token + k), low);
        high = _mm256_fmadd_ps(weights(k + 8), _mm256_loadu_ps(token + k + 8), high);
      }
      alignas(32) float lanes[reduction_lanes];
      _mm256_store_ps(lanes, low);
      _mm256_store_ps(lanes + 8, high);
      for (std::size_t k = whole; k < w.cols(); ++k)
        lanes[k - whole] = __builtin_fmaf(_cvtsh_ss(row[k]), token[k], lanes[k - whole]);
      y[m * y_stride + r] = reduce_lanes(lanes);
    }
  }
}

}  // namespace bitnet::kernels::avx2
