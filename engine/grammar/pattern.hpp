#pragma once

#include "engine/grammar/automaton.hpp"

#include <string_view>

namespace bitnet::engine::grammar {

/// What stands between the quotes of a JSON string whose text matches `pattern`, a regular expression as in
/// ECMA-262 (JSON Schema 2020-12, 6.3.3): it may match anywhere unless anchored. Known are literals, ".",
/// classes, groups, "|", quantifiers, the escapes of single characters, \d \w \s and their opposites, and
/// "^" and "$" at the ends. Throws grammar_error on everything else: assertions, back references, \p.
/// `character` is a rule for any one character. `pattern` is valid UTF-8.
fragment json_pattern(automaton_builder& builder, std::string_view pattern, rule_id character);

}  // namespace bitnet::engine::grammar
