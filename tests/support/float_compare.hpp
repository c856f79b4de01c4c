#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>

namespace bitnet::test {

/// The same representation, so that -0 differs from +0; any NaN equals any NaN.
inline bool same_float(float a, float b) noexcept {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

/// Index of the first pair that is not `same_float`; the shorter length where only the lengths differ.
inline std::optional<std::size_t> first_unequal(std::span<const float> a, std::span<const float> b) noexcept {
  const std::size_t n = a.size() < b.size() ? a.size() : b.size();
  for (std::size_t i = 0; i < n; ++i)
    if (!same_float(a[i], b[i])) return i;
  if (a.size() != b.size()) return n;
  return std::nullopt;
}

/// Index of the first entry that is not within `tolerance(i)` of the exact value; NaN is within nothing.
template <class Tolerance>
std::optional<std::size_t> first_outside(std::span<const float> actual, std::span<const double> exact,
                                         Tolerance tolerance) {
  const std::size_t n = actual.size() < exact.size() ? actual.size() : exact.size();
  for (std::size_t i = 0; i < n; ++i)
    if (!(std::fabs(static_cast<double>(actual[i]) - exact[i]) <= tolerance(i))) return i;
  if (actual.size() != exact.size()) return n;
  return std::nullopt;
}

/// Distance of `actual` from `exact` in units in the last place of the float nearest to `exact`.
inline long double ulp_error(float actual, long double exact) noexcept {
  const auto nearest = static_cast<float>(std::fabs(exact));
  const float next = std::nextafter(nearest, std::numeric_limits<float>::infinity());
  const long double ulp = static_cast<long double>(next) - static_cast<long double>(nearest);
  return std::fabs(static_cast<long double>(actual) - exact) / ulp;
}

}  // namespace bitnet::test
