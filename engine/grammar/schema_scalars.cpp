#include "engine/grammar/characters.hpp"
#include "engine/grammar/numbers.hpp"
#include "engine/grammar/pattern.hpp"
#include "engine/grammar/schema_compiler.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <utility>

namespace bitnet::engine::grammar {

namespace json = boost::json;

namespace {

/// RFC 3339; a leap day or second has no place in them, so that every text is a real date.
constexpr std::string_view date =
    "((19|20)[0-9]{2})-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|"
    "02-(0[1-9]|1[0-9]|2[0-8]))";
constexpr std::string_view time =
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";

/// Patterns for formats; the empty one for formats that are not looked at.
std::string pattern_of_format(std::string_view format) {
  constexpr std::string_view octet = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
  if (format == "date") return fmt::format("^{}$", date);
  if (format == "time") return fmt::format("^{}$", time);
  if (format == "date-time") return fmt::format("^{}T{}$", date, time);
  if (format == "uuid") return "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
  if (format == "ipv4") return fmt::format("^{0}\\.{0}\\.{0}\\.{0}$", octet);
  if (format == "email")
    return "^[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@[a-z0-9]+(-[a-z0-9]+)*(\\.[a-z0-9]+(-[a-z0-9]+)*)+$";
  return {};
}

std::optional<number_bound> bound_of(const json::object& schema, std::string_view name, bool exclusive,
                                     bool integer, const schema_path& path) {
  const auto* value = find(schema, name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) refuse(path, fmt::format("'{}' must be a number", name));
  const auto number = value->to_number<double>();
  if (!(std::abs(number) <= static_cast<double>(max_number_bound)))
    refuse(path, fmt::format("'{}' must lie between -10^18 and 10^18", name));
  if (const auto* whole = value->if_int64()) return number_bound{*whole, exclusive};
  if (number == std::trunc(number)) return number_bound{static_cast<std::int64_t>(number), exclusive};
  if (!integer) refuse(path, fmt::format("'{}' must be a whole number to be supported", name));
  // Whole numbers beyond a fraction begin at the next whole number.
  const bool lower = name == "minimum" || name == "exclusiveMinimum";
  return number_bound{static_cast<std::int64_t>(lower ? std::ceil(number) : std::floor(number)), false};
}

}  // namespace

fragment schema_compiler::number_value(const json::object& schema, bool integer, const schema_path& path) {
  number_limits limits;
  limits.integer = integer;
  const auto tighten = [](std::optional<number_bound>& known, std::optional<number_bound> other, int sign) {
    if (!other) return;
    const auto rank = [sign](const number_bound& x) {
      return std::make_pair(sign * x.value, x.exclusive ? 1 : 0);
    };
    if (!known || rank(*other) > rank(*known)) known = other;
  };
  tighten(limits.least, bound_of(schema, "minimum", false, integer, path), 1);
  tighten(limits.least, bound_of(schema, "exclusiveMinimum", true, integer, path), 1);
  tighten(limits.most, bound_of(schema, "maximum", false, integer, path), -1);
  tighten(limits.most, bound_of(schema, "exclusiveMaximum", true, integer, path), -1);
  return json_number(b_, limits);
}

fragment schema_compiler::string_value(const json::object& schema, const schema_path& path) {
  const auto least = count_of(schema, "minLength", path);
  const auto most = count_of(schema, "maxLength", path);
  std::string pattern;
  if (const auto* value = find(schema, "pattern")) {
    if (!value->is_string()) refuse(path, "'pattern' must be a string");
    pattern.assign(value->get_string().data(), value->get_string().size());
  } else if (const auto* format = find(schema, "format"); format != nullptr && format->is_string()) {
    pattern = pattern_of_format({format->get_string().data(), format->get_string().size()});
  }
  if (!pattern.empty()) {
    if (least || most)
      refuse(path, "'minLength' and 'maxLength' are not supported beside 'pattern' or 'format'");
    try {
      return string_of(json_pattern(b_, pattern, character()));
    } catch (const grammar_error& problem) {
      refuse(path, problem.what());
    }
  }
  if (!least && !most) return free_string();
  if (most && least.value_or(0) > *most) refuse(path, "'minLength' is greater than 'maxLength'");
  return string_of(
      b_.repeat([this] { return b_.call(character()); }, least.value_or(0), most.value_or(unlimited)));
}

rule_id schema_compiler::character() {
  if (!character_) {
    character_ = b_.declare();
    b_.define(*character_, any_json_character(b_));
  }
  return *character_;
}

fragment schema_compiler::string_of(fragment characters) {
  return b_.sequence(b_.literal("\""), characters, b_.literal("\""));
}

fragment schema_compiler::free_string() {
  if (!free_string_) {
    free_string_ = b_.declare();
    b_.define(*free_string_, string_of(b_.repeat([this] { return any_json_character(b_); }, 0, unlimited)));
  }
  return b_.call(*free_string_);
}

fragment schema_compiler::white_space() {
  constexpr std::size_t deepest_indent = 24;
  if (!white_space_) {
    white_space_ = b_.declare();
    const auto indent = b_.repeat([this] { return b_.literal(" "); }, 0, deepest_indent);
    b_.define(*white_space_, b_.choice({b_.empty(), b_.literal(" "), b_.sequence(b_.literal("\n"), indent)}));
  }
  return b_.call(*white_space_);
}

}  // namespace bitnet::engine::grammar
