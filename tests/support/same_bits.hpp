#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace bitnet::test {

/// Index of the first element whose bits differ, NaNs and the sign of zero included; spans of different sizes
/// differ at the end of the shorter.
inline std::optional<std::size_t> first_difference(std::span<const float> a, std::span<const float> b) {
  const std::size_t n = a.size() < b.size() ? a.size() : b.size();
  for (std::size_t i = 0; i < n; ++i) {
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i])) return i;
  }
  if (a.size() != b.size()) return n;
  return std::nullopt;
}

}  // namespace bitnet::test
