#pragma once

#include "kernels/matmul.hpp"

namespace bitnet::kernels {

// One table an instruction set; each is defined in the unit compiled for it. Private to this folder: others
// ask matmul_kernels_for, which knows what the CPU can run.
extern const matmul_kernels scalar_matmul_kernels;
extern const matmul_kernels avx2_matmul_kernels;
extern const matmul_kernels avx_vnni_matmul_kernels;
extern const matmul_kernels avx512_vnni_matmul_kernels;
extern const matmul_kernels amx_int8_matmul_kernels;

}  // namespace bitnet::kernels
