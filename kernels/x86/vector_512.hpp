#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace bitnet::kernels {
namespace {

/// Sixteen lanes in one register.
struct avx512_vector {
  static constexpr std::size_t lanes = 16;
  // 32 registers: 12 rows x 2 chains; broadcasts are memory operands of the multiply-adds.
  static constexpr std::size_t tile_rows = 12;
  static constexpr std::size_t tile_accumulators = 24;

  using f32 = __m512;

  static f32 load(const float* p) noexcept { return _mm512_loadu_ps(p); }
  static void store(float* p, f32 v) noexcept { _mm512_storeu_ps(p, v); }
  static void load_pairs(const float* p, f32& even, f32& odd) noexcept {
    const __m512i evens = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const f32 first = _mm512_loadu_ps(p);
    const f32 second = _mm512_loadu_ps(p + 16);
    even = _mm512_permutex2var_ps(first, evens, second);
    odd = _mm512_permutex2var_ps(first, _mm512_add_epi32(evens, _mm512_set1_epi32(1)), second);
  }
  static void store_pairs(float* p, f32 even, f32 odd) noexcept {
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    _mm512_storeu_ps(p, _mm512_permutex2var_ps(even, first, odd));
    _mm512_storeu_ps(p + 16,
                     _mm512_permutex2var_ps(even, _mm512_add_epi32(first, _mm512_set1_epi32(8)), odd));
  }
  static f32 set1(float x) noexcept { return _mm512_set1_ps(x); }
  static f32 add(f32 a, f32 b) noexcept { return _mm512_add_ps(a, b); }
  static f32 sub(f32 a, f32 b) noexcept { return _mm512_sub_ps(a, b); }
  static f32 mul(f32 a, f32 b) noexcept { return _mm512_mul_ps(a, b); }
  static f32 div(f32 a, f32 b) noexcept { return _mm512_div_ps(a, b); }
  static f32 fma(f32 a, f32 b, f32 c) noexcept { return _mm512_fmadd_ps(a, b, c); }
  static f32 fnma(f32 a, f32 b, f32 c) noexcept { return _mm512_fnmadd_ps(a, b, c); }
  // MAXPS returns its second operand where the first is not greater, NaN or equal zeros included.
  static f32 max(f32 a, f32 b) noexcept { return _mm512_max_ps(a, b); }
  static f32 select_less(f32 a, f32 b, f32 then, f32 otherwise) noexcept {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), otherwise, then);
  }
  static f32 select_nan(f32 a, f32 then, f32 otherwise) noexcept {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), otherwise, then);
  }
  static f32 keep_first(f32 v, std::size_t n, f32 other) noexcept {
    return _mm512_mask_blend_ps(static_cast<__mmask16>((1U << n) - 1), other, v);
  }
  static f32 add_to_exponent(f32 v, f32 k) noexcept {
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(v), _mm512_slli_epi32(_mm512_castps_si512(k), 23)));
  }
  static float reduce_add(f32 v) noexcept {
    const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
  }
  static float reduce_max(f32 v) noexcept {
    const __m256 m8 = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 m4 = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
    const __m128 m2 = _mm_max_ps(m4, _mm_movehl_ps(m4, m4));
    return _mm_cvtss_f32(_mm_max_ss(m2, _mm_movehdup_ps(m2)));
  }
  static bool any_nan(f32 v) noexcept { return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q) != 0; }
  static bool any_equal(f32 a, f32 b) noexcept { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ) != 0; }
  static f32 load_even(const std::uint16_t* p) noexcept {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
  }
  static f32 load_odd(const std::uint16_t* p) noexcept {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), upper_halves()));
  }
  static f32 round_to_bfloat16(f32 v) noexcept {
    return _mm512_castsi512_ps(_mm512_and_si512(rounded(v), upper_halves()));
  }
  static void store_bfloat16(std::uint16_t* p, f32 v) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded(v), 16)));
  }

 private:
  static __m512i upper_halves() noexcept { return _mm512_set1_epi32(static_cast<int>(0xFFFF0000U)); }
  /// The upper halves of the lanes are the rounded numbers.
  static __m512i rounded(f32 v) noexcept {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i to_even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(to_even, _mm512_set1_epi32(0x7FFF)));
    return _mm512_mask_or_epi32(up, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), bits,
                                _mm512_set1_epi32(0x400000));
  }
};

}  // namespace
}  // namespace bitnet::kernels
