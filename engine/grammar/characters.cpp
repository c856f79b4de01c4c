#include "engine/grammar/characters.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace bitnet::engine::grammar {

namespace {

constexpr char32_t first_surrogate = 0xD800;
constexpr char32_t last_surrogate = 0xDFFF;

struct encoded {
  std::array<std::uint8_t, 4> bytes{};
  std::size_t length = 0;
};

encoded encode(char32_t c) {
  const auto tail = [c](unsigned shift) { return static_cast<std::uint8_t>(0x80U | ((c >> shift) & 0x3FU)); };
  const auto head = [c](unsigned mark, unsigned shift) {
    return static_cast<std::uint8_t>(mark | (c >> shift));
  };
  if (c < 0x80) return {{head(0, 0)}, 1};
  if (c < 0x800) return {{head(0xC0, 6), tail(0)}, 2};
  if (c < 0x10000) return {{head(0xE0, 12), tail(6), tail(0)}, 3};
  return {{head(0xF0, 18), tail(12), tail(6), tail(0)}, 4};
}

/// Sequences of byte ranges for characters of one encoded length: splits where the leading bytes differ.
/// `from` and `to` agree in the first `at` bytes, which have been added.
void add_utf8(automaton_builder& b, node_id node, const encoded& from, const encoded& to, std::size_t at,
              node_id out) {
  const auto low = from.bytes[at];
  const auto high = to.bytes[at];
  if (at + 1 == from.length) return b.add_range(node, low, high, out);
  if (low == high) {
    const auto next = b.add_node();
    b.add_range(node, low, high, next);
    return add_utf8(b, next, from, to, at + 1, out);
  }
  auto bottom = from;  // the least and the greatest continuation
  auto top = to;
  for (auto i = at + 1; i < from.length; ++i) {
    bottom.bytes[i] = 0x80;
    top.bytes[i] = 0xBF;
  }
  const bool low_is_whole = std::equal(from.bytes.begin() + at + 1, from.bytes.begin() + from.length,
                                       bottom.bytes.begin() + at + 1);
  const bool high_is_whole =
      std::equal(to.bytes.begin() + at + 1, to.bytes.begin() + to.length, top.bytes.begin() + at + 1);
  unsigned first = low;
  unsigned last = high;
  const auto add_part = [&](std::uint8_t lead, const encoded& least, const encoded& most) {
    const auto next = b.add_node();
    b.add_range(node, lead, lead, next);
    add_utf8(b, next, least, most, at + 1, out);
  };
  if (!low_is_whole) {
    add_part(low, from, top);
    ++first;
  }
  if (!high_is_whole) {
    add_part(high, bottom, to);
    --last;
  }
  if (first > last) return;
  const auto next = b.add_node();
  b.add_range(node, static_cast<std::uint8_t>(first), static_cast<std::uint8_t>(last), next);
  add_utf8(b, next, bottom, top, at + 1, out);
}

void add_characters(automaton_builder& b, fragment into, character_range range) {
  constexpr std::array<char32_t, 4> ends{0x7F, 0x7FF, 0xFFFF, last_character};
  for (const auto end : ends) {
    if (range.first > end || range.first > range.last) continue;
    const auto last = std::min(range.last, end);
    add_utf8(b, into.begin, encode(range.first), encode(last), 0, into.end);
    range.first = last + 1;
  }
}

void add_literal(automaton_builder& b, fragment into, std::string_view bytes) {
  const auto made = b.literal(bytes);
  b.add_jump(into.begin, made.begin);
  b.add_jump(made.end, into.end);
}

std::string escape_of(char32_t c) {
  switch (c) {
    case U'"':
      return "\\\"";
    case U'\\':
      return "\\\\";
    case U'\b':
      return "\\b";
    case U'\f':
      return "\\f";
    case U'\n':
      return "\\n";
    case U'\r':
      return "\\r";
    case U'\t':
      return "\\t";
    default:
      return fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c));
  }
}

/// One of the hexadecimal digits from `first` to `last` (0 to 15), in either case.
fragment hex_digit(automaton_builder& b, unsigned first, unsigned last) {
  const fragment made{b.add_node(), b.add_node()};
  const auto add = [&](unsigned from, unsigned to, char zero) {
    if (from <= to)
      b.add_range(made.begin, static_cast<std::uint8_t>(zero + from), static_cast<std::uint8_t>(zero + to),
                  made.end);
  };
  add(first, std::min(last, 9U), '0');
  for (const char a : {'a', 'A'}) add(std::max(first, 10U), last, static_cast<char>(a - 10));
  return made;
}

/// "\uXXXX" of one UTF-16 unit whose leading digits are given; the rest is anything.
fragment escaped_unit(automaton_builder& b, fragment leading, std::size_t free_digits) {
  auto made = b.sequence(b.literal("\\u"), leading);
  for (std::size_t i = 0; i < free_digits; ++i) made = b.sequence(made, hex_digit(b, 0, 15));
  return made;
}

}  // namespace

character_set normalised(character_set set) {
  std::sort(set.begin(), set.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  character_set joined;
  for (const auto& range : set) {
    if (!joined.empty() && range.first <= joined.back().last + 1)
      joined.back().last = std::max(joined.back().last, range.last);
    else
      joined.push_back(range);
  }
  character_set out;
  for (const auto& range : joined) {
    if (range.first < first_surrogate)
      out.push_back({range.first, std::min(range.last, char32_t{first_surrogate - 1})});
    if (range.last > last_surrogate)
      out.push_back({std::max(range.first, char32_t{last_surrogate + 1}), range.last});
  }
  return out;
}

character_set complement(const character_set& set) {
  character_set out;
  char32_t next = 0;
  for (const auto& range : normalised(set)) {
    if (range.first > next) out.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= last_character) out.push_back({next, last_character});
  return normalised(std::move(out));
}

character_set any_but_line_ends() {
  return complement({{U'\n', U'\n'}, {U'\r', U'\r'}, {0x2028, 0x2029}});
}

fragment json_characters(automaton_builder& builder, const character_set& set) {
  const fragment made{builder.add_node(), builder.add_node()};
  for (auto range : set) {
    // Only quotes, backslashes and control characters need an escape, and they are few.
    for (; range.first <= range.last && range.first < 0x20; ++range.first)
      add_literal(builder, made, escape_of(range.first));
    for (const auto special : {U'"', U'\\'}) {
      if (special < range.first || special > range.last) continue;
      add_literal(builder, made, escape_of(special));
      if (range.first < special) add_characters(builder, made, {range.first, special - 1});
      range.first = special + 1;
    }
    if (range.first <= range.last) add_characters(builder, made, range);
  }
  return made;
}

fragment any_json_character(automaton_builder& b) {
  const fragment plain{b.add_node(), b.add_node()};
  for (const auto& range : complement({{0, 0x1F}, {U'"', U'"'}, {U'\\', U'\\'}}))
    add_characters(b, plain, range);
  std::vector<fragment> ways{plain};
  for (const char c : std::string_view("\"\\/bfnrt")) ways.push_back(b.literal(std::string{'\\', c}));
  // A surrogate may stand only before or after its other half.
  const auto not_d = b.choice({hex_digit(b, 0, 12), hex_digit(b, 14, 15)});
  ways.push_back(escaped_unit(b, not_d, 3));
  const auto below_surrogates = b.sequence(hex_digit(b, 13, 13), hex_digit(b, 0, 7));
  ways.push_back(escaped_unit(b, below_surrogates, 2));
  const auto high = escaped_unit(b, b.sequence(hex_digit(b, 13, 13), hex_digit(b, 8, 11)), 2);
  const auto low = escaped_unit(b, b.sequence(hex_digit(b, 13, 13), hex_digit(b, 12, 15)), 2);
  ways.push_back(b.sequence(high, low));
  return b.choice(ways);
}

char32_t take_character(std::string_view& text) noexcept {
  const auto lead = static_cast<std::uint8_t>(text.front());
  const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t c = length == 1 ? lead : lead & (0x7FU >> length);
  for (std::size_t i = 1; i < length && i < text.size(); ++i)
    c = c << 6U | (static_cast<std::uint8_t>(text[i]) & 0x3FU);
  text.remove_prefix(std::min(length, text.size()));
  return c;
}

}  // namespace bitnet::engine::grammar
