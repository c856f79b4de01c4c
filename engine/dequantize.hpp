#pragma once

#include "engine/tensor_types.hpp"

#include <cstddef>
#include <cstdint>

namespace bitnet::engine {

/// Decodes `count` consecutive weights of a type that is not ternary (F32, F16, BF16, Q8_0, Q4_K or Q6_K) to
/// f32. `in` starts at a group; count is a multiple of layout_of(type).elements. No alignment is required.
void dequantize(tensor_type type, const std::byte* in, std::size_t count, float* out) noexcept;

/// True where dequantize() reads `type`.
bool is_dequantizable(tensor_type type) noexcept;

}  // namespace bitnet::engine
