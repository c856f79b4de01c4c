#pragma once

#include <cstdint>
#include <cstring>

namespace bitnet::kernels {

// Conversions between f32 and IEEE 754 binary16 by integer arithmetic, with the bits that F16C gives: round
// to nearest even, subnormals kept, overflow to infinity, NaNs quieted with the top of their payload.
// Internal linkage on purpose: each instruction set's unit keeps its own copy (kernels/CMakeLists.txt).

[[maybe_unused]] static inline std::uint16_t half_from_float(float value) noexcept {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U)
    return static_cast<std::uint16_t>(sign | 0x7E00U | ((magnitude >> 13) & 0x3FFU));
  // 65520 is half way between the largest half, 65504, and the next power of two: it rounds to even,
  // infinity.
  if (magnitude >= 0x477FF000U) return static_cast<std::uint16_t>(sign | 0x7C00U);
  const auto round_to_even = [](std::uint32_t x, std::uint32_t dropped_bits) {
    const std::uint32_t half_minus_one = (1U << (dropped_bits - 1)) - 1;
    return (x + half_minus_one + ((x >> dropped_bits) & 1U)) >> dropped_bits;
  };
  // Normal halves start at 2^-14: rebias the exponent by 127 - 15 and drop 13 bits; a carry moves up rightly.
  if (magnitude >= 0x38800000U)
    return static_cast<std::uint16_t>(sign | round_to_even(magnitude - (112U << 23), 13));
  // Subnormal halves count units of 2^-24; below 2^-25 everything rounds to zero.
  if (magnitude < 0x33000000U) return sign;
  const std::uint32_t exponent = magnitude >> 23;
  const std::uint32_t significand = (magnitude & 0x7FFFFFU) | 0x800000U;
  return static_cast<std::uint16_t>(sign | round_to_even(significand, 126U - exponent));
}

[[maybe_unused]] static inline float float_from_half(std::uint16_t half) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16;
  const std::uint32_t magnitude = half & 0x7FFFU;
  std::uint32_t bits = 0;
  if (magnitude > 0x7C00U) {
    bits = sign | 0x7FC00000U | ((magnitude & 0x3FFU) << 13);
  } else if (magnitude == 0x7C00U) {
    bits = sign | 0x7F800000U;
  } else if (magnitude >= 0x400U) {
    bits = sign | ((magnitude << 13) + (112U << 23));
  } else {
    // At most 10 bits times 2^-24: exact.
    const float units = static_cast<float>(magnitude) * 0x1p-24F;
    std::memcpy(&bits, &units, sizeof(bits));
    bits |= sign;
  }
  float value = 0.0F;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace bitnet::kernels
