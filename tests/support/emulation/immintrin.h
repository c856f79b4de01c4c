#pragma once

// Stands in front of the compiler's <immintrin.h> in the emulated kernel tests: the same sources then run on
// CPUs without AVX-512 and AMX, with SIMDe's portable vectors and with tiles in memory.

#define SIMDE_NO_NATIVE
// Calls, not inlined code, and no optimisation: the unrolled loops would take minutes to compile.
#define SIMDE_FUNCTION_ATTRIBUTES __attribute__((noinline, unused)) static
#define SIMDE_ENABLE_NATIVE_ALIASES
#include "tests/support/emulation/amx_tiles.hpp"

#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>

// What SIMDe 0.7.4 does not name. A prefetch has no result.
#undef _mm_prefetch
#define _mm_prefetch(address, hint) static_cast<void>(address)
#undef _mm256_dpbusd_avx_epi32
#define _mm256_dpbusd_avx_epi32(sum, a, b) simde_mm256_dpbusd_epi32(sum, a, b)

static inline simde__m512 emulated_cvtepi32_ps(simde__m512i a) {
  const simde__m512i_private from = simde__m512i_to_private(a);
  simde__m512_private to;
  for (int i = 0; i < 16; ++i) to.f32[i] = static_cast<float>(from.i32[i]);
  return simde__m512_from_private(to);
}
#define _mm512_cvtepi32_ps(a) emulated_cvtepi32_ps(a)

static inline simde__m512i emulated_srai_epi32(simde__m512i a, int count) {
  simde__m512i_private v = simde__m512i_to_private(a);
  for (int i = 0; i < 16; ++i) v.i32[i] >>= count;
  return simde__m512i_from_private(v);
}
#define _mm512_srai_epi32(a, count) emulated_srai_epi32(a, count)

static inline void emulated_mask_storeu_ps(float* to, unsigned mask, simde__m512 a) {
  const simde__m512_private from = simde__m512_to_private(a);
  for (int i = 0; i < 16; ++i)
    if ((mask >> i & 1U) != 0) to[i] = from.f32[i];
}
#define _mm512_mask_storeu_ps(to, mask, a) emulated_mask_storeu_ps(to, mask, a)
#define _mm512_stream_ps(to, a) emulated_mask_storeu_ps(to, 0xFFFF, a)

static inline simde__m512 emulated_maskz_loadu_ps(unsigned mask, const float* from) {
  simde__m512_private to;
  for (int i = 0; i < 16; ++i) to.f32[i] = (mask >> i & 1U) != 0 ? from[i] : 0.0F;
  return simde__m512_from_private(to);
}
#define _mm512_maskz_loadu_ps(mask, from) emulated_maskz_loadu_ps(mask, from)
