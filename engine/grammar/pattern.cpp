#include "engine/grammar/pattern.hpp"

#include "engine/grammar/characters.hpp"

#include <fmt/format.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace bitnet::engine::grammar {

namespace {

constexpr std::size_t max_group_depth = 32;
constexpr std::size_t max_repetitions = 4096;

character_set digits() {
  return {{U'0', U'9'}};
}
character_set word_characters() {
  return {{U'0', U'9'}, {U'A', U'Z'}, {U'_', U'_'}, {U'a', U'z'}};
}
character_set white_space() {
  return {{0x09, 0x0D},     {0x20, 0x20},     {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
          {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
}

/// Recursive descent; each piece is built as often as its quantifier says by parsing it again.
class pattern_parser {
 public:
  pattern_parser(automaton_builder& builder, std::string_view pattern, rule_id character)
      : b_(builder), whole_(pattern), rest_(pattern), character_(character) {}

  fragment parse() {
    const auto made = alternatives(0);
    if (!rest_.empty()) refuse("has a \")\" too many");
    return made;
  }

 private:
  [[noreturn]] void refuse(std::string_view why) const {
    throw grammar_error(fmt::format("the pattern \"{}\" {}", whole_, why));
  }

  bool take(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  fragment anything() {
    return b_.repeat([this] { return b_.call(character_); }, 0, unlimited);
  }

  fragment alternatives(std::size_t depth) {
    std::vector<fragment> ways;
    do {
      ways.push_back(branch(depth));
    } while (take("|"));
    return ways.size() == 1 ? ways.front() : b_.choice(ways);
  }

  fragment branch(std::size_t depth) {
    const bool outermost = depth == 0;
    auto made = outermost && !take("^") ? anything() : b_.empty();
    while (!rest_.empty() && rest_.front() != '|' && rest_.front() != ')') {
      if (outermost && take("$")) {
        if (!rest_.empty() && rest_.front() != '|')
          refuse("has \"$\" before its end, which is not supported");
        return made;
      }
      made = b_.sequence(made, quantified(depth));
    }
    return outermost ? b_.sequence(made, anything()) : made;
  }

  fragment quantified(std::size_t depth) {
    const auto begin = rest_;
    const auto first = atom(depth);
    const auto counts = quantifier();
    if (!counts) return first;
    const auto after = rest_;
    const auto again = [&]() -> fragment {
      rest_ = begin;
      return atom(depth);
    };
    // The one that was parsed to find the quantifier stays unused, and is pruned away.
    const auto made = b_.repeat(again, counts->first, counts->second);
    rest_ = after;
    return made;
  }

  std::optional<std::pair<std::size_t, std::size_t>> quantifier() {
    std::pair<std::size_t, std::size_t> counts{0, unlimited};
    if (take("*")) {
    } else if (take("+")) {
      counts.first = 1;
    } else if (take("?")) {
      counts.second = 1;
    } else if (take("{")) {
      counts.first = counts.second = number();
      if (take(",")) counts.second = rest_.starts_with("}") ? unlimited : number();
      if (!take("}") || counts.second < counts.first) refuse("has a quantifier that makes no sense");
    } else {
      return std::nullopt;
    }
    take("?");  // lazy or not: the same texts
    return counts;
  }

  std::size_t number() {
    std::size_t value = 0;
    bool any = false;
    for (; !rest_.empty() && rest_.front() >= '0' && rest_.front() <= '9';
         rest_.remove_prefix(1), any = true) {
      value = value * 10 + static_cast<std::size_t>(rest_.front() - '0');
      if (value > max_repetitions) refuse(fmt::format("repeats more than {} times", max_repetitions));
    }
    if (!any) refuse("has a quantifier that makes no sense");
    return value;
  }

  fragment atom(std::size_t depth) {
    if (take("(")) return group(depth + 1);
    if (take(".")) return json_characters(b_, any_but_line_ends());
    if (take("[")) return json_characters(b_, character_class());
    if (take("\\")) return json_characters(b_, escape());
    for (const std::string_view bad : {"*", "+", "?", "{", "}", "]"})
      if (rest_.starts_with(bad))
        refuse(fmt::format("has \"{}\" where it means nothing; put a \\ before it", bad));
    if (rest_.starts_with("^") || rest_.starts_with("$"))
      refuse("has an anchor inside, which is not supported");
    const auto c = take_character(rest_);
    return json_characters(b_, {{c, c}});
  }

  fragment group(std::size_t depth) {
    if (depth > max_group_depth) refuse("nests too deep");
    if (rest_.starts_with("?") && !take("?:"))
      refuse("has an assertion or a named group, which is not supported");
    const auto made = alternatives(depth);
    if (!take(")")) refuse("lacks a \")\"");
    return made;
  }

  character_set character_class() {
    const bool negated = take("^");
    character_set set;
    while (!take("]")) {
      if (rest_.empty()) refuse("lacks a \"]\"");
      auto from = class_atom();
      const bool single = from.size() == 1 && from.front().first == from.front().last;
      if (single && rest_.size() > 1 && rest_[0] == '-' && rest_[1] != ']') {
        rest_.remove_prefix(1);
        const auto to = class_atom();
        if (to.size() != 1 || to.front().first != to.front().last || to.front().first < from.front().first)
          refuse("has a range of characters that makes no sense");
        from.front().last = to.front().first;
      }
      set.insert(set.end(), from.begin(), from.end());
    }
    return negated ? complement(set) : normalised(std::move(set));
  }

  character_set class_atom() {
    if (rest_.empty()) refuse("lacks a \"]\"");
    if (take("\\b")) return {{U'\b', U'\b'}};
    if (take("\\")) return escape();
    const auto c = take_character(rest_);
    return {{c, c}};
  }

  character_set escape() {
    if (rest_.empty()) refuse("ends in a \\");
    const auto c = take_character(rest_);
    const auto one = [](char32_t x) { return character_set{{x, x}}; };
    switch (c) {
      case U'd':
        return digits();
      case U'D':
        return complement(digits());
      case U'w':
        return word_characters();
      case U'W':
        return complement(word_characters());
      case U's':
        return white_space();
      case U'S':
        return complement(white_space());
      case U'n':
        return one(U'\n');
      case U'r':
        return one(U'\r');
      case U't':
        return one(U'\t');
      case U'f':
        return one(U'\f');
      case U'v':
        return one(U'\v');
      case U'x':
        return one(hexadecimal(2));
      case U'u':
        return one(hexadecimal(4));
      default:
        break;
    }
    const bool letter_or_digit =
        (c >= U'0' && c <= U'9') || (c >= U'A' && c <= U'Z') || (c >= U'a' && c <= U'z');
    if (letter_or_digit) refuse(fmt::format("has \"\\{}\", which is not supported", static_cast<char>(c)));
    return one(c);
  }

  char32_t hexadecimal(std::size_t length) {
    char32_t value = 0;
    for (std::size_t i = 0; i < length; ++i) {
      const char c = rest_.empty() ? '\0' : rest_.front();
      const auto digit = c >= '0' && c <= '9'   ? c - '0'
                         : c >= 'a' && c <= 'f' ? c - 'a' + 10
                         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                : -1;
      if (digit < 0) refuse("has an escape without its hexadecimal digits");
      value = value * 16 + static_cast<char32_t>(digit);
      rest_.remove_prefix(1);
    }
    if (value >= 0xD800 && value <= 0xDFFF) refuse("has half of a surrogate pair, which is not supported");
    return value;
  }

  automaton_builder& b_;
  std::string_view whole_;
  std::string_view rest_;
  rule_id character_;
};

}  // namespace

fragment json_pattern(automaton_builder& builder, std::string_view pattern, rule_id character) {
  return pattern_parser(builder, pattern, character).parse();
}

}  // namespace bitnet::engine::grammar
