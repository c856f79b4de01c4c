#pragma once

#include <cstdint>
#include <cstring>

namespace bitnet::kernels {

// Conversions between f32 and bfloat16, the upper half of an f32: round to nearest even, subnormals kept,
// overflow to infinity, NaNs quieted. Internal linkage on purpose: each instruction set's unit keeps its own
// copy (kernels/CMakeLists.txt).

[[maybe_unused]] static inline std::uint16_t bfloat16_from_float(float value) noexcept {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

[[maybe_unused]] static inline float float_from_bfloat16(std::uint16_t brain) noexcept {
  const std::uint32_t bits = static_cast<std::uint32_t>(brain) << 16;
  float value = 0.0F;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace bitnet::kernels
