#include "kernels/matmul_variants.hpp"
#include "kernels/x86/avx2_operators.hpp"
#include "kernels/x86/ternary_256.hpp"

namespace bitnet::kernels {

namespace {

/// vpmaddubsw adds two products of a code (0..2) and an activation (-128..127) in 16 bits: -512..508. 64 of
/// them make -32768..32512, just the range of a lane; so do 16 with codes scaled by 4. Nothing saturates or
/// wraps.
struct avx2_dot {
  static __m256i add(__m256i partial, __m256i codes, __m256i q) {
    return _mm256_add_epi16(partial, _mm256_maddubs_epi16(codes, q));
  }
  static __m256i flush(__m256i sum, __m256i partial) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(partial, _mm256_set1_epi16(1)));
  }
};

}  // namespace

const matmul_kernels avx2_matmul_kernels{.isa = instruction_set::avx2,
                                         .quantize_row = avx2::quantize_row,
                                         .ternary_matmul = multiply_ternary<avx2_dot>,
                                         .head_int8 = avx2::head_int8,
                                         .head_f16 = avx2::head_f16};

}  // namespace bitnet::kernels
