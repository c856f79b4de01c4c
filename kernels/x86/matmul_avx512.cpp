#include "kernels/matmul_variants.hpp"
#include "kernels/x86/avx2_operators.hpp"
#include "kernels/x86/avx512_operators.hpp"
#include "kernels/x86/products_avx512.hpp"

namespace bitnet::kernels {

namespace avx512 {

namespace {

static_assert(block_rows == ternary_matrix::block_rows && block_rows == head_matrix::block_rows());

/// y[0 .. rows) = float(dots) * scales.
inline void store_half(__m512i dots, __m512 scales, float* y, std::size_t rows) {
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
  using output = float;
  static constexpr std::size_t step_bytes = 512;
  static constexpr std::size_t chunk_cols = 8;
  static constexpr std::size_t lines = 1;  // a chunk, at distances of tile_bytes
  static const std::uint8_t* block(const ternary_matrix& w, std::size_t b) { return w.block(b); }

  /// Adds the products of 8 columns with `Tokens` rows of activations from q. The sums of rows 16..31 come
  /// out scaled by 4: their codes are masked where they lie, at bit 2.
  template <std::size_t Tokens>
  [[gnu::always_inline]] static void add_chunk(const std::uint8_t* chunk, const std::int8_t* q,
                                               std::size_t q_stride, row_sums* sums) {
    const __m512i low_field = _mm512_set1_epi8(0x03);
    const __m512i high_field = _mm512_set1_epi8(0x0C);
    const __m512i x = load(chunk);
    const __m512i z = _mm512_srli_epi16(x, 4);
    const __m512i x_low = _mm512_and_si512(x, low_field);
    const __m512i z_low = _mm512_and_si512(z, low_field);
    const __m512i x_high = _mm512_and_si512(x, high_field);
    const __m512i z_high = _mm512_and_si512(z, high_field);
#pragma GCC unroll 8
    for (std::size_t t = 0; t < Tokens; ++t) {
      const __m512i a = broadcast(q + t * q_stride);
      const __m512i b = broadcast(q + t * q_stride + 4);
      add(sums[t].half[0], x_low, a);
      add(sums[t].half[1], x_high, a);
      add(sums[t].half[0], z_low, b);
      add(sums[t].half[1], z_high, b);
    }
  }

  /// Writes `rows` outputs of token m; y points at the block's first.
  static void store(const ternary_matrix& w, const activation_rows& x, std::size_t m, std::size_t,
                    std::size_t rows, const row_sums& sums, float* y) {
    const __m512i offset = _mm512_set1_epi32(x.row_sum()[m]);
    const __m512 scale = _mm512_set1_ps(x.row_scale()[m] * w.scale());
    store_half(_mm512_sub_epi32(sums.half[0], offset), scale, y, rows);
    if (rows > 16)
      store_half(_mm512_sub_epi32(_mm512_srai_epi32(sums.half[1], 2), offset), scale, y + 16, rows - 16);
  }
};

struct head_product {
  using output = float;
  static constexpr std::size_t step_bytes = 2048;
  static constexpr std::size_t chunk_cols = 4;
  static constexpr std::size_t lines = 2;
  static const std::uint8_t* block(const head_matrix& w, std::size_t b) { return w.int8_block(b); }

  /// Adds the products of 4 columns, a line of each of two tiles, with `Tokens` rows of activations from q.
  template <std::size_t Tokens>
  [[gnu::always_inline]] static void add_chunk(const std::uint8_t* chunk, const std::int8_t* q,
                                               std::size_t q_stride, row_sums* sums) {
    const __m512i weights_0 = load(chunk);
    const __m512i weights_1 = load(chunk + tile_bytes);
#pragma GCC unroll 8
    for (std::size_t t = 0; t < Tokens; ++t) {
      const __m512i a = broadcast(q + t * q_stride);
      add(sums[t].half[0], weights_0, a);
      add(sums[t].half[1], weights_1, a);
    }
  }

  static void store(const head_matrix& w, const activation_rows& x, std::size_t m, std::size_t block,
                    std::size_t rows, const row_sums& sums, float* y) {
    // The stored weights are 128 too large.
    const __m512i excess = _mm512_slli_epi32(_mm512_set1_epi32(x.row_sum()[m]), 7);
    const __m512 row_scale = _mm512_set1_ps(x.row_scale()[m]);
    const float* const scales = w.row_scales() + block * block_rows;
    for (std::size_t h = 0; h < 2 && rows > 16 * h; ++h)
      store_half(_mm512_sub_epi32(sums.half[h], excess),
                 _mm512_mul_ps(row_scale, _mm512_loadu_ps(scales + 16 * h)), y + 16 * h, rows - 16 * h);
  }
};

}  // namespace

void ternary_matmul(const ternary_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
                    work_range blocks) {
  multiply<ternary_product>(w, x, y, y_stride, blocks);
}

void head_int8(const head_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
               work_range blocks) {
  multiply<head_product>(w, x, y, y_stride, blocks);
}

}  // namespace avx512

const matmul_kernels avx512_vnni_matmul_kernels{.isa = instruction_set::avx512_vnni,
                                                .quantize_row = avx2::quantize_row,
                                                .ternary_matmul = avx512::ternary_matmul,
                                                .head_int8 = avx512::head_int8,
                                                .head_f16 = avx2::head_f16};

}  // namespace bitnet::kernels
