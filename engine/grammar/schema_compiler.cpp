#include "engine/grammar/schema_compiler.hpp"

#include "engine/grammar/json_schema.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

namespace bitnet::engine::grammar {

namespace json = boost::json;

namespace {

constexpr std::array<std::string_view, 22> annotations{"title",
                                                       "description",
                                                       "default",
                                                       "examples",
                                                       "example",
                                                       "deprecated",
                                                       "readOnly",
                                                       "writeOnly",
                                                       "$comment",
                                                       "$schema",
                                                       "$id",
                                                       "$anchor",
                                                       "$defs",
                                                       "definitions",
                                                       "format",
                                                       "contentEncoding",
                                                       "contentMediaType",
                                                       "discriminator",
                                                       "xml",
                                                       "externalDocs",
                                                       "$vocabulary",
                                                       "contentSchema"};

constexpr std::array<std::string_view, 4> object_keywords{"properties", "required", "additionalProperties",
                                                          "minProperties"};
constexpr std::array<std::string_view, 4> array_keywords{"items", "prefixItems", "minItems", "maxItems"};
constexpr std::array<std::string_view, 3> string_keywords{"minLength", "maxLength", "pattern"};
constexpr std::array<std::string_view, 4> number_keywords{"minimum", "maximum", "exclusiveMinimum",
                                                          "exclusiveMaximum"};

template <class Names>
bool has_any(const json::object& schema, const Names& names) {
  return std::any_of(names.begin(), names.end(), [&](auto name) { return find(schema, name) != nullptr; });
}

bool is_of_type(const json::value& value, std::string_view type) {
  switch (value.kind()) {
    case json::kind::null:
      return type == "null";
    case json::kind::bool_:
      return type == "boolean";
    case json::kind::int64:
    case json::kind::uint64:
      return type == "integer" || type == "number";
    case json::kind::double_:
      return type == "number";
    case json::kind::string:
      return type == "string";
    case json::kind::array:
      return type == "array";
    case json::kind::object:
      return type == "object";
  }
  return false;
}

std::string text_of(const json::string& text) {
  return {text.data(), text.size()};
}

/// The names in `type`; where there is none, those that the other keywords speak of, and with none of them
/// nothing.
std::vector<std::string> types_of(const json::object& schema, const schema_path& path) {
  std::vector<std::string> types;
  if (const auto* type = find(schema, "type")) {
    if (const auto* name = type->if_string()) return {text_of(*name)};
    const auto* names = type->if_array();
    if (names == nullptr || names->empty()) refuse(path, "'type' must be a name or an array of names");
    for (const auto& name : *names) {
      if (!name.is_string()) refuse(path, "'type' must be a name or an array of names");
      types.push_back(text_of(name.get_string()));
    }
    return types;
  }
  if (has_any(schema, object_keywords)) types.emplace_back("object");
  if (has_any(schema, array_keywords)) types.emplace_back("array");
  if (has_any(schema, string_keywords)) types.emplace_back("string");
  if (has_any(schema, number_keywords)) types.emplace_back("number");
  return types;
}

/// The part of `document` that "#/a/b" names (RFC 6901).
const json::value* resolve(const json::value& document, std::string_view reference) {
  if (reference == "#") return &document;
  if (!reference.starts_with("#/")) return nullptr;
  json::error_code failure;
  return document.find_pointer(json::string_view(reference.data() + 1, reference.size() - 1), failure);
}

}  // namespace

void refuse(const schema_path& path, std::string_view why) {
  throw grammar_error(fmt::format("at {}: {}", path, why));
}

const json::value* find(const json::object& schema, std::string_view name) {
  return schema.if_contains(json::string_view(name.data(), name.size()));
}

void check_keywords(const json::object& schema, const std::vector<std::string_view>& known,
                    const schema_path& path) {
  for (const auto& [key, value] : schema) {
    const std::string_view name(key.data(), key.size());
    const auto is_name = [&](auto candidate) { return candidate == name; };
    if (std::any_of(known.begin(), known.end(), is_name) || name.starts_with("x-") ||
        std::any_of(annotations.begin(), annotations.end(), is_name))
      continue;
    refuse(path, fmt::format("the keyword '{}' is not supported here", name));
  }
}

std::optional<std::size_t> count_of(const json::object& schema, std::string_view name,
                                    const schema_path& path) {
  constexpr std::int64_t most = 16'384;
  const auto* value = find(schema, name);
  if (value == nullptr) return std::nullopt;
  json::error_code failure;
  const auto count = value->is_number() ? value->to_number<std::int64_t>(failure) : -1;
  if (failure || count < 0 || count > most)
    refuse(path, fmt::format("'{}' must be a whole number from 0 to {}", name, most));
  return static_cast<std::size_t>(count);
}

automaton schema_compiler::compile() && {
  const auto start = rule_of(document_, "#");
  return std::move(b_).finish(start);
}

rule_id schema_compiler::rule_of(const json::value& schema, const schema_path& path) {
  const auto [known, is_new] = rules_.try_emplace(json::serialize(schema));
  if (!is_new) return known->second;
  constexpr std::size_t max_depth = 256;
  if (++depth_ > max_depth) refuse(path, "schemas and references nest too deep");
  const auto rule = known->second = b_.declare();
  b_.define(rule, value_of(schema, path));
  --depth_;
  return rule;
}

fragment schema_compiler::value_of(const json::value& schema, const schema_path& path) {
  if (const auto* allowed = schema.if_bool()) return *allowed ? b_.call(any_value(0)) : b_.choice({});
  const auto* object = schema.if_object();
  if (object == nullptr) refuse(path, "a schema must be an object or a boolean");
  if (find(*object, "$ref") != nullptr) return reference(*object, path);
  if (find(*object, "enum") != nullptr || find(*object, "const") != nullptr)
    return listed_values(*object, path);
  for (const std::string_view keyword : {"anyOf", "oneOf", "allOf"})
    if (find(*object, keyword) != nullptr) return alternatives(*object, keyword, path);
  return typed_value(*object, path);
}

fragment schema_compiler::reference(const json::object& schema, const schema_path& path) {
  check_keywords(schema, {"$ref"}, path);
  const auto* name = find(schema, "$ref")->if_string();
  if (name == nullptr) refuse(path, "'$ref' must be a string");
  const auto reference = text_of(*name);
  const auto* target = resolve(document_, reference);
  if (target == nullptr)
    refuse(path,
           fmt::format("'$ref' names \"{}\", which is not in the schema; only references inside it, such as "
                       "\"#/$defs/name\", are supported",
                       reference));
  return b_.call(rule_of(*target, reference));
}

fragment schema_compiler::alternatives(const json::object& schema, std::string_view keyword,
                                       const schema_path& path) {
  check_keywords(schema, {keyword}, path);
  const auto* list = find(schema, keyword)->if_array();
  if (list == nullptr || list->empty())
    refuse(path, fmt::format("'{}' must be an array of schemas", keyword));
  if (keyword == "allOf" && list->size() != 1) refuse(path, "'allOf' is supported with a single schema only");
  std::vector<fragment> ways;
  for (std::size_t i = 0; i < list->size(); ++i)
    ways.push_back(b_.call(rule_of((*list)[i], fmt::format("{}/{}/{}", path, keyword, i))));
  return b_.choice(ways);
}

fragment schema_compiler::listed_values(const json::object& schema, const schema_path& path) {
  check_keywords(schema, {"enum", "const", "type"}, path);
  json::array values;
  if (const auto* list = find(schema, "enum")) {
    if (!list->is_array()) refuse(path, "'enum' must be an array");
    values = list->get_array();
  }
  if (const auto* only = find(schema, "const")) {
    if (find(schema, "enum") != nullptr && std::find(values.begin(), values.end(), *only) == values.end())
      refuse(path, "'const' is not among the values of 'enum'");
    values = {*only};
  }
  const auto types = types_of(schema, path);
  std::vector<fragment> ways;
  for (const auto& value : values) {
    const bool wanted = types.empty() || std::any_of(types.begin(), types.end(), [&](const auto& type) {
                          return is_of_type(value, type);
                        });
    if (wanted) ways.push_back(b_.literal(json::serialize(value)));
  }
  if (ways.empty()) refuse(path, "no value is left");
  return b_.choice(ways);
}

fragment schema_compiler::typed_value(const json::object& schema, const schema_path& path) {
  const auto types = types_of(schema, path);
  if (types.empty()) {
    check_keywords(schema, {}, path);
    return b_.call(any_value(0));
  }
  std::vector<std::string_view> known{"type"};
  const auto add = [&](const auto& names) { known.insert(known.end(), names.begin(), names.end()); };
  for (const auto& type : types) {
    if (type == "object") add(object_keywords);
    if (type == "array") add(array_keywords);
    if (type == "string") add(string_keywords);
    if (type == "number" || type == "integer") add(number_keywords);
  }
  // The defaults of what is not supported otherwise.
  if (const auto* unique = find(schema, "uniqueItems"); unique != nullptr && *unique == json::value(false))
    known.emplace_back("uniqueItems");
  check_keywords(schema, known, path);
  std::vector<fragment> ways;
  for (const auto& type : types) ways.push_back(value_of_type(type, schema, path));
  return b_.choice(ways);
}

fragment schema_compiler::value_of_type(std::string_view type, const json::object& schema,
                                        const schema_path& path) {
  if (type == "object") return object_value(schema, path);
  if (type == "array") return array_value(schema, path);
  if (type == "string") return string_value(schema, path);
  if (type == "number" || type == "integer") return number_value(schema, type == "integer", path);
  if (type == "boolean") return b_.choice({b_.literal("true"), b_.literal("false")});
  if (type == "null") return b_.literal("null");
  refuse(path, fmt::format("'type' is \"{}\", which is no type of JSON", type));
}

result<automaton> compile_json_schema(std::string_view schema) {
  if (schema.size() > max_schema_bytes)
    return fail(error_code::invalid_request, fmt::format("The JSON schema has {} bytes; at most {} are read.",
                                                         schema.size(), max_schema_bytes));
  try {
    json::parse_options options;
    options.max_depth = 64;
    json::error_code failure;
    const auto document = json::parse(json::string_view(schema.data(), schema.size()), failure, {}, options);
    if (failure)
      return fail(error_code::invalid_request,
                  fmt::format("The JSON schema is no JSON: {}.", failure.message()));
    return schema_compiler(document).compile();
  } catch (const grammar_error& problem) {
    return fail(error_code::invalid_request,
                fmt::format("The JSON schema cannot be used: {}.", problem.what()));
  } catch (const std::exception& problem) {
    return fail(error_code::internal, fmt::format("The JSON schema could not be read: {}.", problem.what()));
  }
}

}  // namespace bitnet::engine::grammar
