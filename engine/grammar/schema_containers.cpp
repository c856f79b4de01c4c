#include "engine/grammar/characters.hpp"
#include "engine/grammar/schema_compiler.hpp"

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

namespace bitnet::engine::grammar {

namespace json = boost::json;

namespace {

/// How deep values may nest that the schema says nothing about. JSON parsers have limits of their own.
constexpr std::size_t any_value_depth = 16;

std::string quoted(const std::string& name) {
  return json::serialize(json::string(name.data(), name.size()));
}

}  // namespace

/// The members that `properties` and `required` name, in this order.
std::vector<schema_compiler::member> schema_compiler::members_of(const json::object& schema,
                                                                 const schema_path& path) {
  std::vector<std::string> required;
  if (const auto* list = find(schema, "required")) {
    if (!list->is_array()) refuse(path, "'required' must be an array of names");
    for (const auto& name : list->get_array()) {
      if (!name.is_string()) refuse(path, "'required' must be an array of names");
      required.emplace_back(name.get_string().data(), name.get_string().size());
    }
  }
  const std::set<std::string> needed(required.begin(), required.end());
  std::vector<member> members;
  std::set<std::string> known;
  if (const auto* properties = find(schema, "properties")) {
    if (!properties->is_object()) refuse(path, "'properties' must be an object of schemas");
    for (const auto& [key, value] : properties->get_object()) {
      const std::string name(key.data(), key.size());
      members.push_back(
          {name, rule_of(value, fmt::format("{}/properties/{}", path, name)), needed.contains(name)});
      known.insert(name);
    }
  }
  const auto* others = find(schema, "additionalProperties");
  for (const auto& name : required) {
    if (!known.insert(name).second) continue;
    const auto value = others == nullptr ? any_value(1) : rule_of(*others, path + "/additionalProperties");
    members.push_back({name, value, true});
  }
  return members;
}

/// What members may be that are not named; nothing where there may be none.
std::optional<rule_id> schema_compiler::other_members(const json::object& schema, const schema_path& path) {
  const auto* others = find(schema, "additionalProperties");
  if (others == nullptr) {
    const auto* properties = find(schema, "properties");
    const bool closed = properties != nullptr && !properties->get_object().empty();
    return closed ? std::nullopt : std::optional(any_value(1));
  }
  if (others->is_bool()) return others->get_bool() ? std::optional(any_value(1)) : std::nullopt;
  return rule_of(*others, path + "/additionalProperties");
}

/// A name in quotes that is none of the known ones. It has no escapes, with which it could be one of them
/// spelled otherwise.
fragment schema_compiler::other_name(const std::vector<member>& known) {
  const character_set plain = complement({{0, 0x1F}, {U'"', U'"'}, {U'\\', U'\\'}});
  const auto free = b_.add_node();
  const auto loop = json_characters(b_, plain);
  const auto out = b_.add_node();
  b_.add_jump(free, loop.begin);
  b_.add_jump(loop.end, free);
  b_.add_range(free, '"', '"', out);
  // A tree of the known names: a character that leaves it leads to freedom, and in it a name may only end
  // where no known one does.
  const auto walk = [&](auto&& self, node_id node, const std::vector<std::string_view>& names) -> void {
    std::map<char32_t, std::vector<std::string_view>> by_first;
    bool ends_here = false;
    for (auto name : names) {
      if (name.empty()) {
        ends_here = true;
        continue;
      }
      const auto c = take_character(name);
      by_first[c].push_back(name);
    }
    if (!ends_here) b_.add_range(node, '"', '"', out);
    character_set taken{{0, 0x1F}, {U'"', U'"'}, {U'\\', U'\\'}};
    for (const auto& [c, rest] : by_first) {
      taken.push_back({c, c});
      if (c < 0x20 || c == U'"' || c == U'\\') continue;  // not spelled without an escape
      const auto step = json_characters(b_, {{c, c}});
      b_.add_jump(node, step.begin);
      self(self, step.end, rest);
    }
    const auto leave = json_characters(b_, complement(taken));
    b_.add_jump(node, leave.begin);
    b_.add_jump(leave.end, free);
  };
  std::vector<std::string_view> names;
  for (const auto& m : known) names.emplace_back(m.name);
  const auto begin = b_.literal("\"");
  walk(walk, begin.end, names);
  return {begin.begin, out};
}

fragment schema_compiler::object_value(const json::object& schema, const schema_path& path) {
  if (const auto least = count_of(schema, "minProperties", path); least.value_or(0) > 0)
    refuse(path, "the keyword 'minProperties' is not supported here");
  const auto members = members_of(schema, path);
  const auto others = other_members(schema, path);
  const auto colon = [this] { return b_.sequence(b_.literal(":"), b_.optional(b_.literal(" "))); };
  const auto comma = [this] { return b_.sequence(b_.literal(","), white_space()); };
  const auto connect = [this](node_id from, fragment piece, node_id to) {
    b_.add_jump(from, piece.begin);
    b_.add_jump(piece.end, to);
  };

  const auto begin = b_.sequence(b_.literal("{"), white_space());
  auto none_yet = begin.end;  // no member so far
  auto some = b_.add_node();  // at least one
  for (const auto& m : members) {
    const auto next_none = b_.add_node();
    const auto next_some = b_.add_node();
    const auto entry = b_.sequence(b_.literal(quoted(m.name)), colon(), b_.call(m.value));
    b_.add_jump(none_yet, entry.begin);
    connect(some, comma(), entry.begin);
    b_.add_jump(entry.end, next_some);
    if (!m.required) {
      b_.add_jump(none_yet, next_none);
      b_.add_jump(some, next_some);
    }
    none_yet = next_none;
    some = next_some;
  }
  if (others) {
    const auto entry =
        b_.sequence(members.empty() ? free_string() : other_name(members), colon(), b_.call(*others));
    b_.add_jump(none_yet, entry.begin);
    connect(some, comma(), entry.begin);
    b_.add_jump(entry.end, some);
  }
  const auto end = b_.literal("}");
  b_.add_jump(none_yet, end.begin);
  connect(some, white_space(), end.begin);
  return {begin.begin, end.end};
}

fragment schema_compiler::array_value(const json::object& schema, const schema_path& path) {
  const auto least = count_of(schema, "minItems", path).value_or(0);
  auto most = count_of(schema, "maxItems", path).value_or(unlimited);
  std::vector<rule_id> first;
  if (const auto* prefix = find(schema, "prefixItems")) {
    if (!prefix->is_array()) refuse(path, "'prefixItems' must be an array of schemas");
    for (std::size_t i = 0; i < prefix->get_array().size(); ++i)
      first.push_back(rule_of(prefix->get_array()[i], fmt::format("{}/prefixItems/{}", path, i)));
  }
  const auto* items = find(schema, "items");
  const bool closed = items != nullptr && items->is_bool() && !items->get_bool();
  if (closed) most = std::min(most, first.size());
  if (least > most) refuse(path, "'minItems' is greater than the items that there may be");
  // Where the list is closed nothing comes after `first`.
  rule_id more = 0;
  if (!closed) more = items != nullptr ? rule_of(*items, path + "/items") : any_value(1);

  const auto begin = b_.sequence(b_.literal("["), white_space());
  const auto end = b_.literal("]");
  const auto close = b_.sequence(white_space(), end);
  auto at = begin.end;
  const auto append = [&](fragment piece) {
    b_.add_jump(at, piece.begin);
    at = piece.end;
  };
  const auto comma = [this] { return b_.sequence(b_.literal(","), white_space()); };
  const auto allow_end = [&](std::size_t items_so_far) {
    b_.add_jump(at, items_so_far == 0 ? end.begin : close.begin);
  };
  const auto chained = most == unlimited ? std::max({least, first.size(), std::size_t{1}}) : most;
  for (std::size_t i = 0; i < chained; ++i) {
    if (i >= least) allow_end(i);
    if (i > 0) append(comma());
    append(b_.call(i < first.size() ? first[i] : more));
  }
  allow_end(chained);
  if (most == unlimited) {
    const auto entry = b_.sequence(comma(), b_.call(more));
    b_.add_jump(at, entry.begin);
    b_.add_jump(entry.end, at);
  }
  return {begin.begin, end.end};
}

rule_id schema_compiler::any_value(std::size_t depth) {
  if (any_.empty()) any_.resize(any_value_depth + 1);
  if (any_[depth]) return *any_[depth];
  const auto rule = b_.declare();
  any_[depth] = rule;
  std::vector<fragment> ways{free_string(), json_number(b_, {}), b_.literal("true"), b_.literal("false"),
                             b_.literal("null")};
  if (depth < any_value_depth) ways.push_back(any_container(depth + 1));
  b_.define(rule, b_.choice(ways));
  return rule;
}

/// An array or object whose values nest no deeper than any_value(depth).
fragment schema_compiler::any_container(std::size_t depth) {
  const auto list = [&](std::string_view open, const auto& entry, std::string_view close) {
    const auto comma = [this] { return b_.sequence(b_.literal(","), white_space()); };
    const auto more = b_.repeat([&] { return b_.sequence(comma(), entry()); }, 0, unlimited);
    const auto filled = b_.sequence(entry(), more, white_space());
    return b_.sequence(b_.literal(open), white_space(), b_.optional(filled), b_.literal(close));
  };
  const auto value = [&] { return b_.call(any_value(depth)); };
  const auto named = [&] {
    return b_.sequence(free_string(), b_.literal(":"), b_.optional(b_.literal(" ")), value());
  };
  return b_.choice({list("[", value, "]"), list("{", named, "}")});
}

}  // namespace bitnet::engine::grammar
