#pragma once

#include <cstddef>

namespace bitnet::kernels {

/// Lanes of every float reduction: element i is added to partial sum i % 16, whatever the vector width.
inline constexpr std::size_t reduction_lanes = 16;

/// The fixed tree that ends every reduction: lanes 8 apart, then 4, 2 and 1. It is the order in which halves
/// of AVX-512, AVX and SSE registers are added, so vector code needs no shuffles to follow it. Internal
/// linkage on purpose: each instruction set's unit keeps its own copy (kernels/CMakeLists.txt).
[[maybe_unused]] static inline float reduce_lanes(const float (&lane)[reduction_lanes]) noexcept {
  float s8[8];
  for (std::size_t i = 0; i < 8; ++i) s8[i] = lane[i] + lane[i + 8];
  float s4[4];
  for (std::size_t i = 0; i < 4; ++i) s4[i] = s8[i] + s8[i + 4];
  return (s4[0] + s4[2]) + (s4[1] + s4[3]);
}

}  // namespace bitnet::kernels
