#pragma once

#include "kernels/vector.hpp"

namespace bitnet::kernels {

// The tables of the instruction sets; each is defined in its own unit, compiled with its own flags.
extern const vector_kernels scalar_vector_kernels;
extern const vector_kernels avx2_vector_kernels;
extern const vector_kernels avx512_vector_kernels;
/// In what amx_int8 differs from avx512_vector_kernels.
extern const attention_function amx_attention;

}  // namespace bitnet::kernels
