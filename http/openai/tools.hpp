#pragma once

#include "http/openai/object_reader.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

// Function calling. The models' chat templates know no tools, so a call is made by constraining the answer:
// the text is the arguments of the one function in question, or names one of several.

namespace bitnet::http::openai {

struct tool_definition {
  std::string name;
  std::string description;
  std::string parameters;  ///< a JSON schema as text
};

struct tool_call {
  std::string name;
  std::string arguments;  ///< a JSON object as text
};

/// Reads "tools" and "tool_choice" (and refuses the older "functions" and "function_call"). Returns the tools
/// of which one must be called: none for the choices "none" and "auto", with which the model answers in text.
std::vector<tool_definition> read_tools(object_reader& reader);

/// The JSON schema of an answer that calls one of `tools`, which must not be empty.
std::string tool_call_schema(const std::vector<tool_definition>& tools);

/// What tells the model about the functions.
std::string tool_instructions(const std::vector<tool_definition>& tools);

/// The call that `text` makes; nothing where it is no complete answer of several.
std::optional<tool_call> parse_tool_call(const std::vector<tool_definition>& tools, std::string_view text);

}  // namespace bitnet::http::openai
