#include "config/value.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

namespace bitnet::config {

namespace {

using std::chrono::milliseconds;

struct unit {
  std::string_view suffix;
  std::uint64_t ms;
};

// Longest first, so that "ms" and "min" are not taken for "s" and "h" suffixes of something else.
constexpr std::array<unit, 4> units{{{"min", 60'000}, {"ms", 1}, {"s", 1'000}, {"h", 3'600'000}}};

template <class T>
bool parse_all_digits(std::string_view text, T& out) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), out);
  return !text.empty() && code == std::errc{} && end == text.data() + text.size();
}

}  // namespace

parsed<bool> parse_bool(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return tl::unexpected(fmt::format("must be true or false, not '{}'", text));
}

parsed<std::uint64_t> parse_unsigned(std::string_view text, std::uint64_t min, std::uint64_t max) {
  std::uint64_t value = 0;
  if (!parse_all_digits(text, value) || value < min || value > max)
    return tl::unexpected(fmt::format("must be a whole number from {} to {}, not '{}'", min, max, text));
  return value;
}

parsed<double> parse_real(std::string_view text, double min, double max) {
  double value = 0;
  const auto [end, code] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  const bool whole = !text.empty() && code == std::errc{} && end == text.data() + text.size();
  if (!whole || !(value >= min && value <= max))  // not a number compares false
    return tl::unexpected(fmt::format("must be a number from {} to {}, not '{}'", min, max, text));
  return value;
}

parsed<milliseconds> parse_duration(std::string_view text, milliseconds min, milliseconds max) {
  for (const auto& u : units) {
    if (!text.ends_with(u.suffix)) continue;
    std::uint64_t count = 0;
    if (!parse_all_digits(text.substr(0, text.size() - u.suffix.size()), count)) break;
    if (count > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / u.ms) break;
    const milliseconds value{static_cast<std::int64_t>(count * u.ms)};
    if (value < min || value > max) break;
    return value;
  }
  return tl::unexpected(fmt::format("must be a duration from {} to {}, such as 500ms, 5s or 2min, not '{}'",
                                    format_duration(min), format_duration(max), text));
}

parsed<std::string> parse_choice(std::string_view text, std::span<const std::string_view> choices) {
  if (std::find(choices.begin(), choices.end(), text) != choices.end()) return std::string{text};
  return tl::unexpected(fmt::format("must be {}, not '{}'", join_choices(choices), text));
}

std::string format_duration(milliseconds value) {
  const auto ms = value.count();
  if (ms != 0 && ms % 3'600'000 == 0) return fmt::format("{}h", ms / 3'600'000);
  if (ms != 0 && ms % 60'000 == 0) return fmt::format("{}min", ms / 60'000);
  if (ms % 1'000 == 0) return fmt::format("{}s", ms / 1'000);
  return fmt::format("{}ms", ms);
}

std::string join_choices(std::span<const std::string_view> choices) {
  std::string text;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (i > 0) text += i + 1 == choices.size() ? " or " : ", ";
    text += choices[i];
  }
  return text;
}

}  // namespace bitnet::config
