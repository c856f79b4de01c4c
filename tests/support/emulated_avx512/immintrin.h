// Stands in for the compiler's header where the AVX-512 kernels are built for a CPU without AVX-512: SIMDe computes
// their intrinsics with AVX2, so that their arithmetic is tested everywhere. Only the include path of those test
// targets has this folder.
#pragma once
#pragma GCC system_header  // for #include_next

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include "tests/support/emulation/amx_tiles.hpp"

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

static inline __m512 emulated_maskz_loadu_ps(__mmask16 mask, const float* from) {
  float lane[16];
  for (int i = 0; i < 16; ++i) lane[i] = (mask >> i & 1) != 0 ? from[i] : 0.0F;
  return _mm512_loadu_ps(lane);
}

static inline __m256i emulated_cvtepi32_epi16(__m512i v) {
  simde__m512i_private from = simde__m512i_to_private(v);
  simde__m256i_private to;
  for (int i = 0; i < 16; ++i) to.i16[i] = (short)from.i32[i];
  return simde__m256i_from_private(to);
}

#define _mm512_extractf32x8_ps(v, upper) emulated_half_of(v, upper)
#define _mm512_maskz_loadu_ps(mask, from) emulated_maskz_loadu_ps(mask, from)
#define _mm512_cvtepi32_epi16(v) emulated_cvtepi32_epi16(v)
