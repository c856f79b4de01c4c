#include "engine/grammar/numbers.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace bitnet::engine::grammar {

namespace {

constexpr std::size_t max_digits = 18;
constexpr std::size_t max_fraction_digits = 15;

fragment digit(automaton_builder& b, char first = '0', char last = '9') {
  return b.range(static_cast<std::uint8_t>(first), static_cast<std::uint8_t>(last));
}

fragment digits(automaton_builder& b, std::size_t least, std::size_t most) {
  return b.repeat([&] { return digit(b); }, least, most);
}

fragment fraction(automaton_builder& b) {
  return b.sequence(b.literal("."), digits(b, 1, max_fraction_digits));
}

/// A fraction that is not zero.
fragment positive_fraction(automaton_builder& b) {
  return b.sequence(b.literal("."), b.repeat([&] { return b.literal("0"); }, 0, max_fraction_digits / 2),
                    digit(b, '1', '9'), digits(b, 0, max_fraction_digits / 2));
}

/// Numbers of one length between two of that length, digit by digit: what was read so far equals the lower
/// bound's beginning, the upper one's, both or neither.
class same_length_range {
 public:
  same_length_range(automaton_builder& b, std::string low, std::string high)
      : b_(b), low_(std::move(low)), high_(std::move(high)), out_(b.add_node()) {}

  fragment build() { return {from(0, true, true), out_}; }

 private:
  node_id from(std::size_t at, bool at_low, bool at_high) {
    if (at == low_.size()) return out_;
    const auto key = std::make_tuple(at, at_low, at_high);
    if (const auto known = nodes_.find(key); known != nodes_.end()) return known->second;
    const auto node = b_.add_node();
    nodes_.emplace(key, node);
    const char low = at_low ? low_[at] : '0';
    const char high = at_high ? high_[at] : '9';
    for (char c = low; c <= high; ++c) {
      const auto next = from(at + 1, at_low && c == low, at_high && c == high);
      b_.add_range(node, static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c), next);
    }
    return node;
  }

  automaton_builder& b_;
  std::string low_;
  std::string high_;
  node_id out_;
  std::map<std::tuple<std::size_t, bool, bool>, node_id> nodes_;
};

/// Whole numbers from `low` to `high`, both at least 0; nothing where low > high.
fragment whole_range(automaton_builder& b, std::int64_t low, std::int64_t high) {
  std::vector<fragment> ways;
  if (low > high) return b.choice(ways);
  const auto low_text = std::to_string(low);
  const auto high_text = std::to_string(high);
  for (auto length = low_text.size(); length <= high_text.size(); ++length) {
    std::string from = low_text;
    if (length > low_text.size()) {
      from.assign(length, '0');
      from.front() = '1';
    }
    auto to = length == high_text.size() ? high_text : std::string(length, '9');
    ways.push_back(same_length_range(b, std::move(from), std::move(to)).build());
  }
  return b.choice(ways);
}

/// An interval of numbers without sign.
struct magnitudes {
  number_bound least;
  number_bound most;
};

fragment magnitude_range(automaton_builder& b, const magnitudes& range, bool integer) {
  auto [least, most] = range;
  const auto first_whole = least.value + (least.exclusive ? 1 : 0);
  const auto last_whole = most.value - (most.exclusive ? 1 : 0);
  if (integer) return whole_range(b, first_whole, last_whole);
  const auto zeros = [&] { return b.optional(b.literal(".0")); };
  std::vector<fragment> ways;
  // Below the upper bound every fraction is allowed, on it none.
  ways.push_back(b.sequence(whole_range(b, first_whole, most.value - 1), b.optional(fraction(b))));
  if (!most.exclusive && most.value >= first_whole)
    ways.push_back(b.sequence(b.literal(std::to_string(most.value)), zeros()));
  if (least.exclusive && least.value < most.value)
    ways.push_back(b.sequence(b.literal(std::to_string(least.value)), positive_fraction(b)));
  return b.choice(ways);
}

fragment unlimited_number(automaton_builder& b, bool integer) {
  const auto sign = b.optional(b.literal("-"));
  const auto whole = b.choice({b.literal("0"), b.sequence(digit(b, '1', '9'), digits(b, 0, max_digits - 1))});
  if (integer) return b.sequence(sign, whole);
  const auto mark = b.choice({b.literal("e"), b.literal("E")});
  const auto exponent_sign = b.optional(b.choice({b.literal("+"), b.literal("-")}));
  const auto exponent = b.sequence(mark, exponent_sign, digits(b, 1, 2));
  return b.sequence(sign, whole, b.optional(fraction(b)), b.optional(exponent));
}

}  // namespace

fragment json_number(automaton_builder& b, const number_limits& limits) {
  if (!limits.least && !limits.most) return unlimited_number(b, limits.integer);
  const auto least = limits.least.value_or(number_bound{-max_number_bound, false});
  const auto most = limits.most.value_or(number_bound{max_number_bound, false});
  std::vector<fragment> ways;
  if (most.value >= 0) {
    const bool from_zero = least.value < 0;
    ways.push_back(magnitude_range(b, {from_zero ? number_bound{} : least, most}, limits.integer));
  }
  if (least.value < 0) {
    // Zero has been covered, where it is allowed: here it would be "-0".
    const auto nearest = most.value < 0 ? number_bound{-most.value, most.exclusive} : number_bound{0, true};
    const number_bound farthest{-least.value, least.exclusive};
    ways.push_back(b.sequence(b.literal("-"), magnitude_range(b, {nearest, farthest}, limits.integer)));
  }
  return b.choice(ways);
}

}  // namespace bitnet::engine::grammar
