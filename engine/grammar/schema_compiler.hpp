#pragma once

#include "engine/grammar/automaton.hpp"
#include "engine/grammar/numbers.hpp"

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::engine::grammar {

/// Where in the schema something stands, for messages: a JSON pointer such as "#/properties/name".
using schema_path = std::string;

/// Turns the schemas of one document into rules. Throws grammar_error with the place in its message.
class schema_compiler {
 public:
  explicit schema_compiler(const boost::json::value& document) : document_(document) {}

  automaton compile() &&;

 private:
  // schema_compiler.cpp: which kind of schema is it?
  rule_id rule_of(const boost::json::value& schema, const schema_path& path);
  fragment value_of(const boost::json::value& schema, const schema_path& path);
  fragment reference(const boost::json::object& schema, const schema_path& path);
  fragment alternatives(const boost::json::object& schema, std::string_view keyword, const schema_path& path);
  fragment listed_values(const boost::json::object& schema, const schema_path& path);
  fragment typed_value(const boost::json::object& schema, const schema_path& path);
  fragment value_of_type(std::string_view type, const boost::json::object& schema, const schema_path& path);

  // schema_scalars.cpp
  fragment string_value(const boost::json::object& schema, const schema_path& path);
  fragment number_value(const boost::json::object& schema, bool integer, const schema_path& path);

  // schema_containers.cpp
  struct member {
    std::string name;
    rule_id value;
    bool required;
  };
  std::vector<member> members_of(const boost::json::object& schema, const schema_path& path);
  std::optional<rule_id> other_members(const boost::json::object& schema, const schema_path& path);
  fragment object_value(const boost::json::object& schema, const schema_path& path);
  fragment array_value(const boost::json::object& schema, const schema_path& path);
  fragment other_name(const std::vector<member>& known);
  rule_id any_value(std::size_t depth);
  fragment any_container(std::size_t depth);

  fragment string_of(fragment characters);
  fragment free_string();
  rule_id character();
  /// Nothing, a blank, or a line feed with some blanks.
  fragment white_space();

  const boost::json::value& document_;
  automaton_builder b_;
  std::map<std::string, rule_id> rules_;     ///< by the text of the schema: equal ones share a rule
  std::size_t depth_ = 0;                    ///< of the rules being made
  std::vector<std::optional<rule_id>> any_;  ///< any value, by its depth
  std::optional<rule_id> character_;
  std::optional<rule_id> free_string_;
  std::optional<rule_id> white_space_;
};

[[noreturn]] void refuse(const schema_path& path, std::string_view why);
/// Refuses every member of `schema` that is neither in `known` nor an annotation.
void check_keywords(const boost::json::object& schema, const std::vector<std::string_view>& known,
                    const schema_path& path);
/// The member as a whole number of at least 0; nothing where it is absent.
std::optional<std::size_t> count_of(const boost::json::object& schema, std::string_view name,
                                    const schema_path& path);
const boost::json::value* find(const boost::json::object& schema, std::string_view name);

}  // namespace bitnet::engine::grammar
