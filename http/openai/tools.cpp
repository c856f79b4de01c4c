#include "http/openai/tools.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/core.h>

#include <algorithm>
#include <utility>

namespace bitnet::http::openai {

namespace json = boost::json;

namespace {

constexpr std::size_t max_tools = 128;
constexpr std::size_t max_name_length = 64;

bool is_function_name(const std::string& name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= max_name_length && std::all_of(name.begin(), name.end(), allowed);
}

/// {"type":"function","function":{"name","description"?,"parameters"?,"strict"?}}
void read_tool(object_reader& reader, std::size_t index, const json::value& value, tool_definition& out) {
  const auto name = fmt::format("tools[{}]", index);
  const json::object* tool = value.if_object();
  const json::value* type = tool == nullptr ? nullptr : tool->if_contains("type");
  const json::value* described = tool == nullptr ? nullptr : tool->if_contains("function");
  if (type == nullptr || !type->is_string() || described == nullptr || !described->is_object())
    return reader.fail(name, codes::invalid_type,
                       R"(must be an object with "type":"function" and an object "function")");
  if (type->get_string() != "function")
    return reader.fail(name, codes::unsupported_value, "is not of type \"function\", the only one supported");
  object_reader function(described->get_object(), name + ".function.");
  function.string("name", out.name);
  if (!function.error() && !is_function_name(out.name))
    function.fail("name", codes::invalid_value, "must be 1 to 64 letters, digits, underscores and dashes");
  function.string("description", out.description);
  bool strict = false;
  function.boolean("strict", strict);
  out.parameters = R"({"type":"object","additionalProperties":false})";
  if (const json::value* parameters = function.find("parameters")) {
    if (!parameters->is_object())
      function.fail("parameters", codes::invalid_type, "must be a JSON schema: an object");
    else if (!parameters->get_object().empty())
      out.parameters = json::serialize(*parameters);
  }
  if (function.error()) reader.fail(*function.error());
}

std::vector<tool_definition> read_list(object_reader& reader) {
  std::vector<tool_definition> tools;
  const json::value* value = reader.find("tools");
  if (value == nullptr) return tools;
  const json::array* list = value->if_array();
  if (list == nullptr) {
    reader.fail("tools", codes::invalid_type, fmt::format("must be an array, not {}", kind_name(*value)));
    return tools;
  }
  if (list->size() > max_tools) {
    reader.fail("tools", codes::invalid_value, fmt::format("has more than {} entries", max_tools));
    return tools;
  }
  tools.resize(list->size());
  for (std::size_t i = 0; i < list->size() && !reader.error(); ++i)
    read_tool(reader, i, (*list)[i], tools[i]);
  return tools;
}

/// {"type":"function","function":{"name"}}
std::string named_choice(object_reader& reader, const json::value& choice) {
  constexpr std::string_view forms = R"(must be "none", "auto", "required", or name a function of "tools")";
  const json::object* object = choice.if_object();
  const json::value* function = object == nullptr ? nullptr : object->if_contains("function");
  const json::value* name =
      function == nullptr || !function->is_object() ? nullptr : function->get_object().if_contains("name");
  if (name == nullptr || !name->is_string()) {
    reader.fail("tool_choice",
                choice.is_object() || choice.is_string() ? codes::invalid_value : codes::invalid_type, forms);
    return {};
  }
  return {name->get_string().data(), name->get_string().size()};
}

void refuse_older_names(object_reader& reader) {
  const json::value* functions = reader.find("functions");
  if (functions != nullptr && !(functions->is_array() && functions->get_array().empty()))
    reader.fail("functions", codes::unsupported_parameter, "is not supported; use \"tools\"");
  const json::value* call = reader.find("function_call");
  if (call != nullptr &&
      !(call->is_string() && (call->get_string() == "none" || call->get_string() == "auto")))
    reader.fail("function_call", codes::unsupported_parameter, "is not supported; use \"tool_choice\"");
}

/// Makes references to places in a schema right for where it is put. What only looks like one, in a value, is
/// left alone.
void move_references(json::value& schema, const std::string& to) {
  if (auto* list = schema.if_array()) {
    for (auto& item : *list) move_references(item, to);
  } else if (auto* object = schema.if_object()) {
    for (auto& [key, value] : *object) {
      if (key == "enum" || key == "const" || key == "default" || key == "examples") continue;
      auto* reference = key == "$ref" ? value.if_string() : nullptr;
      if (reference != nullptr && reference->starts_with('#'))
        *reference = json::string(to + std::string(reference->data() + 1, reference->size() - 1));
      else
        move_references(value, to);
    }
  }
}

}  // namespace

std::vector<tool_definition> read_tools(object_reader& reader) {
  refuse_older_names(reader);
  auto tools = read_list(reader);
  bool parallel = true;
  reader.boolean("parallel_tool_calls", parallel);
  const json::value* choice = reader.find("tool_choice");
  if (choice == nullptr || reader.error()) return {};
  const json::string* word = choice->if_string();
  if (word != nullptr && (*word == "none" || *word == "auto")) return {};
  if (word != nullptr && *word == "required") {
    if (tools.empty())
      reader.fail("tool_choice", codes::invalid_value, "is \"required\", but there are no \"tools\"");
    return tools;
  }
  const auto name = named_choice(reader, *choice);
  if (reader.error()) return {};
  std::erase_if(tools, [&](const tool_definition& t) { return t.name != name; });
  if (tools.empty())
    reader.fail("tool_choice", codes::invalid_value,
                fmt::format("names \"{}\", which is not among \"tools\"", name));
  else
    tools.resize(1);
  return tools;
}

std::string tool_call_schema(const std::vector<tool_definition>& tools) {
  if (tools.size() == 1) return tools.front().parameters;
  json::array calls;
  json::object definitions;
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const auto place = fmt::format("call_{}", i);
    auto parameters = json::parse(tools[i].parameters);
    move_references(parameters, "#/$defs/" + place);
    definitions[place] = std::move(parameters);
    json::object members{{"name", {{"const", tools[i].name}}}, {"arguments", {{"$ref", "#/$defs/" + place}}}};
    calls.push_back({{"type", "object"},
                     {"properties", std::move(members)},
                     {"required", {"name", "arguments"}},
                     {"additionalProperties", false}});
  }
  return json::serialize(json::object{{"anyOf", std::move(calls)}, {"$defs", std::move(definitions)}});
}

std::string tool_instructions(const std::vector<tool_definition>& tools) {
  std::string text = "You answer by calling a function.";
  for (const auto& tool : tools)
    text += fmt::format("\nFunction {}: {}\nIts arguments are JSON by this schema: {}", tool.name,
                        tool.description.empty() ? "(no description)" : tool.description, tool.parameters);
  text += tools.size() == 1
              ? "\nAnswer with the arguments only."
              : "\nAnswer with JSON of the form {\"name\": function, \"arguments\": its arguments}.";
  return text;
}

std::optional<tool_call> parse_tool_call(const std::vector<tool_definition>& tools, std::string_view text) {
  if (tools.size() == 1) return tool_call{tools.front().name, std::string(text)};
  json::error_code failure;
  const auto value = json::parse(json::string_view(text.data(), text.size()), failure);
  const json::object* call = failure ? nullptr : value.if_object();
  const json::value* name = call == nullptr ? nullptr : call->if_contains("name");
  const json::value* arguments = call == nullptr ? nullptr : call->if_contains("arguments");
  if (name == nullptr || !name->is_string() || arguments == nullptr) return std::nullopt;
  return tool_call{{name->get_string().data(), name->get_string().size()}, json::serialize(*arguments)};
}

}  // namespace bitnet::http::openai
