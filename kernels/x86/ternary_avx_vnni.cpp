#include "kernels/matmul_variants.hpp"
#include "kernels/x86/avx2_operators.hpp"
#include "kernels/x86/ternary_256.hpp"

namespace bitnet::kernels {

namespace {

/// vpdpbusd adds four products of unsigned codes and signed activations to a 32-bit lane.
struct avx_vnni_dot {
  static __m256i add(__m256i partial, __m256i codes, __m256i q) {
    return _mm256_dpbusd_avx_epi32(partial, codes, q);
  }
  static __m256i flush(__m256i sum, __m256i partial) { return _mm256_add_epi32(sum, partial); }
};

}  // namespace

const matmul_kernels avx_vnni_matmul_kernels{.isa = instruction_set::avx_vnni,
                                             .quantize_row = avx2::quantize_row,
                                             .ternary_matmul = multiply_ternary<avx_vnni_dot>,
                                             .head_int8 = avx2::head_int8,
                                             .head_f16 = avx2::head_f16};

}  // namespace bitnet::kernels
