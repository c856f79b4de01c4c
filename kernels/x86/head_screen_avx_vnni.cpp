#include "kernels/head_screen_variants.hpp"
#include "kernels/x86/head_screen_256.hpp"

namespace bitnet::kernels {

namespace {

/// vpdpbusd adds four products of unsigned codes and signed activations to a 32-bit lane.
struct avx_vnni_screen_dot {
  static __m256i add(__m256i partial, __m256i codes, __m256i q) {
    return _mm256_dpbusd_avx_epi32(partial, codes, q);
  }
  static __m256i flush(__m256i sum, __m256i partial) { return _mm256_add_epi32(sum, partial); }
};

}  // namespace

const head_screen_kernels avx_vnni_head_screen_kernels{.scores = score_rows<avx_vnni_screen_dot>,
                                                       .rescore = rescore_rows};

}  // namespace bitnet::kernels
