#pragma once

#include <tl/expected.hpp>

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

// Text to typed values and back, as flags, environment and file spell them. An error is the second half of a
// sentence that begins with the key: "must be ...".

namespace bitnet::config {

template <class T>
using parsed = tl::expected<T, std::string>;

parsed<bool> parse_bool(std::string_view text);

/// Decimal, within [min, max].
parsed<std::uint64_t> parse_unsigned(std::string_view text, std::uint64_t min, std::uint64_t max);

/// Decimal, with or without a fraction, within [min, max].
parsed<double> parse_real(std::string_view text, double min, double max);

/// A whole number with a unit: ms, s, min or h; within [min, max].
parsed<std::chrono::milliseconds> parse_duration(std::string_view text, std::chrono::milliseconds min,
                                                 std::chrono::milliseconds max);

/// One of `choices`, spelled exactly.
parsed<std::string> parse_choice(std::string_view text, std::span<const std::string_view> choices);

/// The shortest exact spelling, for example "5s" or "1500ms".
std::string format_duration(std::chrono::milliseconds value);

/// "a, b or c"
std::string join_choices(std::span<const std::string_view> choices);

}  // namespace bitnet::config
