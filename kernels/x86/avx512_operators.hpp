#pragma once

#include "kernels/matmul.hpp"

// AVX-512 VNNI functions that the AMX table uses for few tokens.
namespace bitnet::kernels::avx512 {

void ternary_matmul(const ternary_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
                    work_range blocks);

void head_int8(const head_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
               work_range blocks);

}  // namespace bitnet::kernels::avx512
