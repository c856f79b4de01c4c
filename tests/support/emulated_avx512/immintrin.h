// Stands in for the compiler's header where the AVX-512 kernels are built for a CPU without AVX-512: SIMDe computes
// their intrinsics with AVX2, so that their arithmetic is tested everywhere. Only the include path of those test
// targets has this folder.
#pragma once
#pragma GCC system_header  // for #include_next

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

// What SIMDe 0.7.4 lacks.

static inline __m256 emulated_half_of(__m512 v, int upper) {
  simde__m512_private p = simde__m512_to_private(v);
  return simde__m256_to_private(p.m256[upper]).n;
}

static inline __m512 emulated_join(__m256 low, __m256 high) {
  simde__m512_private p = simde__m512_to_private(simde_mm512_setzero_ps());
  p.m256[0] = low;
  p.m256[1] = high;
  return simde__m512_from_private(p);
}

static inline __m512 emulated_cvtph_ps(__m256i v) {
  return emulated_join(_mm256_cvtph_ps(_mm256_castsi256_si128(v)),
                       _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1)));
}

static inline __m256i emulated_cvtps_ph(__m512 v) {
  return _mm256_set_m128i(_mm256_cvtps_ph(emulated_half_of(v, 1), _MM_FROUND_TO_NEAREST_INT),
                          _mm256_cvtps_ph(emulated_half_of(v, 0), _MM_FROUND_TO_NEAREST_INT));
}

#define _mm512_extractf32x8_ps(v, upper) emulated_half_of(v, upper)
#define _mm512_cvtph_ps(v) emulated_cvtph_ps(v)
// Rounds to nearest even, the only mode that the kernels use.
#define _mm512_cvtps_ph(v, rounding) emulated_cvtps_ph(v)
