#include "kernels/matmul_variants.hpp"
#include "kernels/x86/avx2_operators.hpp"

#include <immintrin.h>

namespace bitnet::kernels {

namespace {

constexpr std::size_t block_rows = ternary_matrix::block_rows;
constexpr std::size_t step_cols = 64;    // columns of one step: eight chunks
constexpr std::size_t step_bytes = 512;  // packed bytes of one step of one block

/// Sums of the four groups of eight rows of a block: rows 0, 8, 16, 24 and up. Groups 2 and 3 are scaled
/// by 4.
struct row_sums {
  __m256i group[4];
};

/// Adds the products of 64 columns of one block.
///
/// vpmaddubsw sums two products of a code (0..2) and an activation (-128..127): at most 512 in magnitude, or
/// 2048 where the code is left at bit 2. A step adds 16 of them in 16 bits: at most 32768 below zero and
/// 32512 above, so nothing saturates or wraps.
[[gnu::always_inline]] inline void add_step(const std::uint8_t* packed, const std::int8_t* q,
                                            row_sums& sums) {
  const __m256i low_field = _mm256_set1_epi8(0x03);
  const __m256i high_field = _mm256_set1_epi8(0x0C);
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i acc[4] = {};
#pragma GCC unroll 8
  for (std::size_t chunk = 0; chunk < 8; ++chunk) {
    const __m256i a = _mm256_set1_epi32(reinterpret_cast<const std::int32_t*>(q)[2 * chunk]);
    const __m256i b = _mm256_set1_epi32(reinterpret_cast<const std::int32_t*>(q)[2 * chunk + 1]);
#pragma GCC unroll 2
    for (std::size_t half = 0; half < 2; ++half) {
      const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(packed + 64 * chunk + 32 * half));
      const __m256i z = _mm256_srli_epi16(x, 4);
      acc[half] = _mm256_add_epi16(acc[half], _mm256_maddubs_epi16(_mm256_and_si256(x, low_field), a));
      acc[half] = _mm256_add_epi16(acc[half], _mm256_maddubs_epi16(_mm256_and_si256(z, low_field), b));
      acc[half + 2] =
          _mm256_add_epi16(acc[half + 2], _mm256_maddubs_epi16(_mm256_and_si256(x, high_field), a));
      acc[half + 2] =
          _mm256_add_epi16(acc[half + 2], _mm256_maddubs_epi16(_mm256_and_si256(z, high_field), b));
    }
  }
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i)
    sums.group[i] = _mm256_add_epi32(sums.group[i], _mm256_madd_epi16(acc[i], ones));
}

void store_block(const row_sums& sums, std::int32_t row_sum, float scale, float* y, std::size_t rows) {
  const __m256i offset = _mm256_set1_epi32(row_sum);
  const __m256 factor = _mm256_set1_ps(scale);
  alignas(32) float out[block_rows];
  float* const to = rows == block_rows ? y : out;
  for (std::size_t i = 0; i < 4; ++i) {
    const __m256i dots = i < 2 ? sums.group[i] : _mm256_srai_epi32(sums.group[i], 2);
    _mm256_storeu_ps(to + 8 * i, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(dots, offset)), factor));
  }
  if (rows != block_rows)
    for (std::size_t r = 0; r < rows; ++r) y[r] = out[r];
}

void ternary_matmul(const ternary_matrix& w, const quantized_activations& x, float* y, std::size_t y_stride,
                    work_range blocks) {
  for (std::size_t block = blocks.first; block < blocks.last; ++block) {
    const std::size_t first = block * block_rows;
    const std::size_t rows = w.rows() - first < block_rows ? w.rows() - first : block_rows;
    for (std::size_t m = 0; m < x.rows(); ++m) {
      row_sums sums{};
      const std::uint8_t* packed = w.block(block);
      for (std::size_t k = 0; k < w.padded_cols(); k += step_cols, packed += step_bytes)
        add_step(packed, x.row(m) + k, sums);
      store_block(sums, x.row_sum()[m], x.row_scale()[m] * w.scale(), y + m * y_stride + first, rows);
    }
  }
}

}  // namespace

const matmul_kernels avx2_matmul_kernels{.isa = instruction_set::avx2,
                                         .quantize_row = avx2::quantize_row,
                                         .ternary_matmul = ternary_matmul,
                                         .head_int8 = avx2::head_int8,
                                         .head_f16 = avx2::head_f16};

}  // namespace bitnet::kernels
