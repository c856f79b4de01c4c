#pragma once

#include "kernels/matmul.hpp"

// AVX2 functions that the tables of wider instruction sets use as well.
namespace bitnet::kernels::avx2 {

void quantize_row(const float* x, quantized_activations& out, std::size_t r);

void head_int8(const head_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
               work_range blocks);

void head_f16(const head_matrix& w, const float* x, std::size_t x_stride, std::size_t x_rows, float* y,
              std::size_t y_stride, work_range blocks);

}  // namespace bitnet::kernels::avx2
