#include "kernels/attention.hpp"
#include "kernels/vector_operators.hpp"
#include "kernels/vector_variants.hpp"
#include "kernels/x86/vector_512.hpp"

namespace bitnet::kernels {

constinit const vector_kernels avx512_vector_kernels =
    make_vector_kernels<avx512_vector>(instruction_set::avx512_vnni);

}  // namespace bitnet::kernels
