#pragma once

#include "engine/grammar/automaton.hpp"

#include <cstdint>
#include <string_view>
#include <vector>

// Characters of text as they stand in JSON strings.

namespace bitnet::engine::grammar {

struct character_range {
  char32_t first;
  char32_t last;
};

inline constexpr char32_t last_character = 0x10FFFF;

/// Sorted, disjoint, without surrogates.
using character_set = std::vector<character_range>;

character_set normalised(character_set set);
character_set complement(const character_set& set);
/// All characters but those that end a line in regular expressions.
character_set any_but_line_ends();

/// One character of `set` as the bytes between a JSON string's quotes: UTF-8, or where that may not stand
/// there its shortest escape.
fragment json_characters(automaton_builder& builder, const character_set& set);

/// One character in any spelling that JSON has for it, escapes included.
fragment any_json_character(automaton_builder& builder);

/// The character at the start of `text`, which is valid UTF-8 and not empty, taken off it.
char32_t take_character(std::string_view& text) noexcept;

}  // namespace bitnet::engine::grammar
