#include "kernels/x86/avx2_operators.hpp"

#include <immintrin.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace bitnet::kernels::avx2 {

namespace {

constexpr std::size_t step = 32;

/// Bits of the largest magnitude. As integers, magnitudes of finite floats, infinity and NaNs are ordered.
std::int32_t max_magnitude_bits(const float* x, std::size_t n) {
  const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
  const auto load = [&](std::size_t k) {
    return _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + k)), magnitude);
  };
  __m256i a = _mm256_setzero_si256();
  __m256i b = a;
  __m256i c = a;
  __m256i d = a;
  std::size_t k = 0;
  for (; k + step <= n; k += step) {
    a = _mm256_max_epi32(a, load(k));
    b = _mm256_max_epi32(b, load(k + 8));
    c = _mm256_max_epi32(c, load(k + 16));
    d = _mm256_max_epi32(d, load(k + 24));
  }
  a = _mm256_max_epi32(_mm256_max_epi32(a, b), _mm256_max_epi32(c, d));
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1));
  std::int32_t result = _mm_cvtsi128_si32(m);
  for (; k < n; ++k) {
    std::int32_t bits = 0;
    std::memcpy(&bits, x + k, sizeof(bits));
    bits &= 0x7FFFFFFF;
    if (bits > result) result = bits;
  }
  return result;
}

/// Quantises 32 floats. The packs saturate to [-128, 127], which is the rule's clamp.
__m256i quantize_32(const float* x, __m256 scale) {
  const auto rounded = [&](std::size_t k) {
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + k), scale));
  };
  const __m256i low = _mm256_packs_epi32(rounded(0), rounded(8));
  const __m256i high = _mm256_packs_epi32(rounded(16), rounded(24));
  // The packs work within 128-bit halves: dwords come out as 0 2 4 6 | 1 3 5 7 of the eight groups of four.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
}

}  // namespace

void quantize_row(const float* x, quantized_activations& out, std::size_t r) {
  constexpr std::size_t step_cols = quantized_activations::step_cols;
  const std::size_t cols = out.cols();
  const std::size_t steps = out.padded_cols() / step_cols;
  const std::size_t stride = out.step_stride();
  std::int8_t* q = out.step(r, 0);
  const std::int32_t bits = max_magnitude_bits(x, cols);
  if (bits >= 0x7F800000) {
    for (std::size_t s = 0; s < steps; ++s) std::memset(q + s * stride, 0, step_cols);
    out.row_scale()[r] = std::numeric_limits<float>::quiet_NaN();
    out.row_sum()[r] = 0;
    return;
  }
  float absmax = 0.0F;
  std::memcpy(&absmax, &bits, sizeof(absmax));
  const float range = absmax > 1e-5F ? absmax : 1e-5F;
  const __m256 scale = _mm256_set1_ps(127.0F / range);

  const __m256i ones8 = _mm256_set1_epi8(1);
  const __m256i ones16 = _mm256_set1_epi16(1);
  __m256i sums = _mm256_setzero_si256();
  const auto store = [&](std::int8_t* to, const float* from) {
    const __m256i values = quantize_32(from, scale);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), values);
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(ones8, values), ones16));
  };
  std::size_t k = 0;
  for (; k + step_cols <= cols; k += step_cols, q += stride) {
    store(q, x + k);
    store(q + 32, x + k + 32);
  }
  if (k < cols) {
    float tail[step_cols] = {};
    std::memcpy(tail, x + k, (cols - k) * sizeof(float));
    store(q, tail);
    store(q + 32, tail + 32);
  }

  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1));
  out.row_scale()[r] = range / 127.0F;
  out.row_sum()[r] = _mm_cvtsi128_si32(s);
}

}  // namespace bitnet::kernels::avx2
