#pragma once

#include "engine/grammar/automaton.hpp"

#include <cstdint>
#include <optional>

namespace bitnet::engine::grammar {

/// An end of an interval of numbers.
struct number_bound {
  std::int64_t value = 0;
  bool exclusive = false;
};

struct number_limits {
  std::optional<number_bound> least;
  std::optional<number_bound> most;
  bool integer = false;
};

/// Bounds beyond this are refused by who reads them: so many digits fit into 64 bits.
inline constexpr std::int64_t max_number_bound = 999'999'999'999'999'999;

/// JSON numbers inside `limits`. Digits are bounded, so that no number overflows a double or an int64 and a
/// model cannot go on with them forever: 18 before the point, 15 behind it, 2 of an exponent. Only numbers
/// without limits have exponents. Throws grammar_error where no number is inside.
fragment json_number(automaton_builder& builder, const number_limits& limits);

}  // namespace bitnet::engine::grammar
