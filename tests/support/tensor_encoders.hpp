#pragma once

#include "engine/tensor_types.hpp"

#include <cstdint>
#include <span>
#include <string>

namespace bitnet::tests {

/// Encoders of tensor data, written from the layouts' descriptions and apart from the engine's decoders.

/// Ternary weights in whole groups as `type` stores them, without I2_S's trailer. TQ types write `scale` to
/// every group; F32, F16 and BF16 write weight * scale. weights.size() is a multiple of the type's group.
std::string encode_ternary(engine::tensor_type type, std::span<const std::int8_t> weights, float scale);

/// What follows the last group of an I2_S tensor: the scale, eight times.
std::string i2_s_trailer(float scale);

/// Real values as F32, F16, BF16, Q8_0, Q4_K or Q6_K; rounds to what the type can hold.
std::string encode_values(engine::tensor_type type, std::span<const float> values);

}  // namespace bitnet::tests
