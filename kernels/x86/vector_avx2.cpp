#include "kernels/attention.hpp"
#include "kernels/vector_operators.hpp"
#include "kernels/vector_variants.hpp"

#include <immintrin.h>

namespace bitnet::kernels {
namespace {

/// Lanes 0-7 and 8-15 in two registers.
struct avx2_vector {
  static constexpr std::size_t lanes = 16;
  // 16 registers: 3 rows x 2 chains of 2, 2 for the keys or values and 1 for a broadcast.
  static constexpr std::size_t tile_rows = 3;
  static constexpr std::size_t tile_accumulators = 6;

  struct f32 {
    __m256 low, high;
  };

  static f32 load(const float* p) noexcept { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static void store(float* p, f32 v) noexcept {
    _mm256_storeu_ps(p, v.low);
    _mm256_storeu_ps(p + 8, v.high);
  }
  /// The even and the odd of 16 floats, eight each, in order.
  static void split_pairs(const float* p, __m256& even, __m256& odd) noexcept {
    const __m256 a = _mm256_loadu_ps(p);
    const __m256 b = _mm256_loadu_ps(p + 8);
    const auto in_order = [](__m256 v) {  // the shuffle worked within halves
      return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xD8));
    };
    even = in_order(_mm256_shuffle_ps(a, b, 0x88));
    odd = in_order(_mm256_shuffle_ps(a, b, 0xDD));
  }
  static void join_pairs(float* p, __m256 even, __m256 odd) noexcept {
    const __m256 low = _mm256_unpacklo_ps(even, odd);
    const __m256 high = _mm256_unpackhi_ps(even, odd);
    _mm256_storeu_ps(p, _mm256_permute2f128_ps(low, high, 0x20));
    _mm256_storeu_ps(p + 8, _mm256_permute2f128_ps(low, high, 0x31));
  }
  static void load_pairs(const float* p, f32& even, f32& odd) noexcept {
    split_pairs(p, even.low, odd.low);
    split_pairs(p + 16, even.high, odd.high);
  }
  static void store_pairs(float* p, f32 even, f32 odd) noexcept {
    join_pairs(p, even.low, odd.low);
    join_pairs(p + 16, even.high, odd.high);
  }
  static f32 set1(float x) noexcept {
    const __m256 v = _mm256_set1_ps(x);
    return {v, v};
  }
  static f32 add(f32 a, f32 b) noexcept {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  static f32 sub(f32 a, f32 b) noexcept {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
  static f32 mul(f32 a, f32 b) noexcept {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  static f32 div(f32 a, f32 b) noexcept {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
  }
  static f32 fma(f32 a, f32 b, f32 c) noexcept {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static f32 fnma(f32 a, f32 b, f32 c) noexcept {
    return {_mm256_fnmadd_ps(a.low, b.low, c.low), _mm256_fnmadd_ps(a.high, b.high, c.high)};
  }
  // MAXPS returns its second operand where the first is not greater, NaN or equal zeros included.
  static f32 max(f32 a, f32 b) noexcept {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
  }
  static f32 select_less(f32 a, f32 b, f32 then, f32 otherwise) noexcept {
    return {_mm256_blendv_ps(otherwise.low, then.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
            _mm256_blendv_ps(otherwise.high, then.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ))};
  }
  static f32 select_nan(f32 a, f32 then, f32 otherwise) noexcept {
    return {_mm256_blendv_ps(otherwise.low, then.low, _mm256_cmp_ps(a.low, a.low, _CMP_UNORD_Q)),
            _mm256_blendv_ps(otherwise.high, then.high, _mm256_cmp_ps(a.high, a.high, _CMP_UNORD_Q))};
  }
  static f32 keep_first(f32 v, std::size_t n, f32 other) noexcept {
    const __m256i count = _mm256_set1_epi32(static_cast<int>(n));
    const __m256i low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i high = _mm256_add_epi32(low, _mm256_set1_epi32(8));
    return {_mm256_blendv_ps(other.low, v.low, _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, low))),
            _mm256_blendv_ps(other.high, v.high, _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, high)))};
  }
  static __m256 add_to_exponent(__m256 v, __m256 k) noexcept {
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32(_mm256_castps_si256(k), 23)));
  }
  static f32 add_to_exponent(f32 v, f32 k) noexcept {
    return {add_to_exponent(v.low, k.low), add_to_exponent(v.high, k.high)};
  }
  static float reduce_add(f32 v) noexcept {
    const __m256 s8 = _mm256_add_ps(v.low, v.high);
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
  }
  static float reduce_max(f32 v) noexcept {
    const __m256 m8 = _mm256_max_ps(v.low, v.high);
    const __m128 m4 = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
    const __m128 m2 = _mm_max_ps(m4, _mm_movehl_ps(m4, m4));
    return _mm_cvtss_f32(_mm_max_ss(m2, _mm_movehdup_ps(m2)));
  }
  static bool any_nan(f32 v) noexcept {
    return _mm256_movemask_ps(_mm256_cmp_ps(v.low, v.high, _CMP_UNORD_Q)) != 0;
  }
  static bool any_equal(f32 a, f32 b) noexcept {
    return _mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(a.low, b.low, _CMP_EQ_OQ),
                                           _mm256_cmp_ps(a.high, b.high, _CMP_EQ_OQ))) != 0;
  }
  static __m256i load_words(const std::uint16_t* p) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static f32 load_even(const std::uint16_t* p) noexcept {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(load_words(p), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(load_words(p + 16), 16))};
  }
  static f32 load_odd(const std::uint16_t* p) noexcept {
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xFFFF0000U));
    return {_mm256_castsi256_ps(_mm256_and_si256(load_words(p), upper)),
            _mm256_castsi256_ps(_mm256_and_si256(load_words(p + 16), upper))};
  }
  /// The upper halves of the lanes are the rounded numbers.
  static __m256i rounded(__m256 v) noexcept {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i to_even = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(to_even, _mm256_set1_epi32(0x7FFF)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    return _mm256_blendv_epi8(up, quiet, _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
  }
  static f32 round_to_bfloat16(f32 v) noexcept {
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xFFFF0000U));
    return {_mm256_castsi256_ps(_mm256_and_si256(rounded(v.low), upper)),
            _mm256_castsi256_ps(_mm256_and_si256(rounded(v.high), upper))};
  }
  static void store_bfloat16(std::uint16_t* p, f32 v) noexcept {
    const __m256i packed =
        _mm256_packus_epi32(_mm256_srli_epi32(rounded(v.low), 16), _mm256_srli_epi32(rounded(v.high), 16));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xD8));
  }
};

}  // namespace

constinit const vector_kernels avx2_vector_kernels = make_vector_kernels<avx2_vector>(instruction_set::avx2);

}  // namespace bitnet::kernels
