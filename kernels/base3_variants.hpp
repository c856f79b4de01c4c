#pragma once

#include "kernels/base3.hpp"

namespace bitnet::kernels {

// Each is defined in its own unit, compiled with its own flags.
void base3_matmul_scalar(const base3_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
                         work_range blocks);

/// Needs AVX-512 VNNI and VBMI.
void base3_matmul_avx512(const base3_matrix& w, const activation_rows& x, float* y, std::size_t y_stride,
                         work_range blocks);

}  // namespace bitnet::kernels
