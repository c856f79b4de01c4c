#include "kernels/head_screen_variants.hpp"
#include "kernels/x86/head_screen_256.hpp"

namespace bitnet::kernels {

namespace {

/// vpmaddubsw adds two products of a code (0..15) and an activation (-128..127) in 16 bits: -3840..3810.
/// Eight of them stay within a lane.
struct avx2_screen_dot {
  static __m256i add(__m256i partial, __m256i codes, __m256i q) {
    return _mm256_add_epi16(partial, _mm256_maddubs_epi16(codes, q));
  }
  static __m256i flush(__m256i sum, __m256i partial) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(partial, _mm256_set1_epi16(1)));
  }
};

}  // namespace

const head_screen_kernels avx2_head_screen_kernels{.scores = score_rows<avx2_screen_dot>,
                                                   .rescore = rescore_rows};

}  // namespace bitnet::kernels
