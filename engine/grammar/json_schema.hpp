#pragma once

#include "engine/error.hpp"
#include "engine/grammar/automaton.hpp"

#include <string_view>

namespace bitnet::engine::grammar {

inline constexpr std::size_t max_schema_bytes = 256 << 10;

/// The JSON texts that `schema`, a JSON Schema (2020-12) as text, allows; some of them where it leaves a
/// choice that does not matter: members come in the order of `properties`, an object with `properties` has
/// others only where `additionalProperties` says so explicitly, there is little white space, numbers have
/// few digits, and values that nothing is said about nest at most 16 deep. Every text that the automaton
/// matches is valid for the schema, with these exceptions: `oneOf` counts as `anyOf`, and formats other than
/// date, time, date-time, uuid, ipv4 and email are not looked at.
///
/// Refuses (invalid_request) what is no schema, what no finite value satisfies, what is too large, and
/// keywords that are not supported; the message names the keyword and its place.
result<automaton> compile_json_schema(std::string_view schema);

}  // namespace bitnet::engine::grammar
