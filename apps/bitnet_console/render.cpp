#include "apps/bitnet_console/render.hpp"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

namespace bitnet::console {

namespace json = boost::json;

namespace {

double number(const json::value& v) {
  if (v.is_double()) return v.get_double();
  if (v.is_int64()) return static_cast<double>(v.get_int64());
  if (v.is_uint64()) return static_cast<double>(v.get_uint64());
  return 0;
}

double number(const json::object& o, std::string_view key) {
  const auto* v = o.if_contains(key);
  return v == nullptr ? 0 : number(*v);
}

std::string text(const json::object& o, std::string_view key) {
  const auto* v = o.if_contains(key);
  return v != nullptr && v->is_string() ? std::string(v->get_string()) : std::string();
}

std::string clean(std::string s) {
  std::replace_if(
      s.begin(), s.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return s;
}

std::string plain_number(double value) {
  auto s = fmt::format("{:.1f}", value);
  if (s.ends_with(".0")) s.resize(s.size() - 2);
  return s;
}

/// A value by the unit that ends its key: the schema's rule.
std::string cell(std::string_view key, const json::value& v) {
  if (v.is_null()) return "-";
  if (v.is_bool()) return v.get_bool() ? "yes" : "no";
  if (v.is_string()) return v.get_string().empty() ? "-" : clean(std::string(v.get_string()));
  if (v.is_structured()) return clean(json::serialize(v));
  if (key.ends_with("_ms")) return format_duration(number(v));
  if (key.ends_with("_us")) return format_duration(number(v) / 1e3);
  if (key.ends_with("_seconds")) return format_duration(number(v) * 1e3);
  if (key.ends_with("_percent")) return fmt::format("{:.1f} %", number(v));
  return plain_number(number(v));
}

std::string label(std::string_view key) {
  for (const std::string_view unit : {"_ms", "_us", "_seconds", "_percent"})
    if (key.ends_with(unit)) key.remove_suffix(unit.size());
  std::string s(key);
  std::replace(s.begin(), s.end(), '_', ' ');
  return s;
}

struct column {
  std::string title;
  bool right = false;
  std::function<std::string(const json::object&)> show;
};

column left(std::string title, std::string key) {
  return {std::move(title), false, [key](const json::object& o) {
            const auto* v = o.if_contains(key);
            return v == nullptr ? std::string("-") : cell(key, *v);
          }};
}

column right(std::string title, std::string key) {
  auto c = left(std::move(title), std::move(key));
  c.right = true;
  return c;
}

std::string now(const json::object& o) {
  const auto running = number(o, "running_ms");
  const auto message = text(o, "now");
  return running <= 0 || message.empty() ? "-"
                                         : clean(fmt::format("{} {}", message, format_duration(running)));
}

std::vector<column> actor_columns() {
  return {
      right("ID", "id"),
      left("NAME", "name"),
      right("DEPTH", "depth"),
      {"RATE", true, [](const json::object& o) { return fmt::format("{:.1f}/s", number(o, "rate")); }},
      right("WAIT-p99", "wait_p99_ms"),
      {"BUSY%", true, [](const json::object& o) { return fmt::format("{:.1f}", number(o, "busy_percent")); }},
      {"NOW", false, now},
      right("RESTARTS", "restarts"),
      left("LAST-ERROR", "last_error")};
}

std::vector<column> tree_columns() {
  auto columns = actor_columns();
  columns[1].show = [](const json::object& o) {
    return std::string(2 * static_cast<std::size_t>(number(o, "level")), ' ') + clean(text(o, "name"));
  };
  return columns;
}

/// The columns of lists, by command and by the list's key.
const std::map<std::pair<std::string, std::string>, std::vector<column>>& known_columns() {
  static const std::map<std::pair<std::string, std::string>, std::vector<column>> all{
      {{"top", "actors"}, actor_columns()},
      {{"ps", "actors"}, actor_columns()},
      {{"tree", "actors"}, tree_columns()},
      {{"hung", "hung"}, {right("ID", "id"), left("NAME", "name"), left("WHY", "why")}},
      {{"health", "components"},
       {left("COMPONENT", "name"), left("STATUS", "status"), left("MESSAGE", "message")}},
      {{"streams", "streams"},
       {right("REQUEST", "request"), left("KIND", "kind"), right("AGE", "age_ms"),
        right("PROMPT", "prompt_tokens"), right("TOKENS", "generated_tokens"), right("OF", "max_tokens"),
        right("TOK/S", "tokens_per_second"), right("SILENT", "silent_ms"), left("ANSWER", "answer")}},
      {{"events", "events"}, {left("TIME", "time"), left("LEVEL", "level"), left("TEXT", "text")}},
      {{"errors", "log"}, {left("TIME", "time"), left("LEVEL", "level"), left("TEXT", "text")}},
      {{"config", "settings"}, {left("SETTING", "key"), left("VALUE", "value"), left("DEFAULT", "default")}},
  };
  return all;
}

std::string upper(std::string s) {
  std::transform(s.begin(), s.end(), s.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return s;
}

/// For lists that this console does not know: a column a key of the first row.
std::vector<column> columns_of(const json::array& rows) {
  std::vector<column> columns;
  if (rows.empty() || !rows.front().is_object()) return columns;
  for (const auto& [key, value] : rows.front().get_object()) {
    const std::string name(key);
    columns.push_back(value.is_number() ? right(upper(label(name)), name) : left(upper(label(name)), name));
  }
  return columns;
}

/// Characters, for the width on the screen; text from the server is UTF-8.
std::size_t length(std::string_view s) {
  return static_cast<std::size_t>(
      std::count_if(s.begin(), s.end(), [](unsigned char c) { return (c & 0xC0) != 0x80; }));
}

std::string cut(const std::string& line, std::size_t width) {
  if (width == 0 || length(line) <= width) return line;
  std::size_t end = 0;
  for (std::size_t characters = 0; end < line.size(); ++end)
    if ((static_cast<unsigned char>(line[end]) & 0xC0) != 0x80 && characters++ == width - 1) break;
  return line.substr(0, end) + ">";
}

std::string table(const std::vector<column>& columns, const json::array& rows, std::size_t width) {
  std::vector<std::vector<std::string>> cells(1);
  for (const auto& c : columns) cells[0].push_back(c.title);
  for (const auto& row : rows) {
    if (!row.is_object()) continue;
    auto& line = cells.emplace_back();
    for (const auto& c : columns) line.push_back(c.show(row.get_object()));
  }
  std::string out;
  for (const auto& line : cells) {
    std::string joined;
    for (std::size_t i = 0; i < columns.size(); ++i) {
      std::size_t wide = 0;
      for (const auto& other : cells) wide = std::max(wide, length(other[i]));
      const std::string pad(wide - length(line[i]), ' ');
      joined += (i == 0 ? "" : "  ") + (columns[i].right ? pad + line[i] : line[i] + pad);
    }
    joined.erase(joined.find_last_not_of(' ') + 1);
    out += cut(joined, width) + "\n";
  }
  return out;
}

std::string facts(const json::object& o, std::size_t width) {
  std::size_t wide = 0;
  for (const auto& [key, value] : o) wide = std::max(wide, length(label(key)));
  std::string out;
  for (const auto& [key, value] : o) {
    const auto name = label(key);
    if (value.is_array()) continue;
    out += cut(fmt::format("{}{}  {}", name, std::string(wide - name.size(), ' '), cell(key, value)), width) +
           "\n";
  }
  return out;
}

std::string list(const std::string& command, const std::string& key, const json::array& rows,
                 std::size_t width, bool titled) {
  const bool sentences = !rows.empty() && rows.front().is_string();
  std::string out = titled ? fmt::format("{}:\n", label(key)) : "";
  if (rows.empty()) return out + (titled ? "  none\n" : fmt::format("no {}\n", label(key)));
  if (sentences) {
    for (const auto& row : rows)
      if (row.is_string()) out += "- " + clean(std::string(row.get_string())) + "\n";
    return out;
  }
  const auto known = known_columns().find({command, key});
  return out + table(known != known_columns().end() ? known->second : columns_of(rows), rows, width);
}

}  // namespace

std::string format_duration(double ms) {
  if (ms < 0.0005) return "0";
  if (ms < 1) return fmt::format("{:.0f} us", ms * 1e3);
  if (ms < 100) return fmt::format("{:.1f} ms", ms);
  if (ms < 1e3) return fmt::format("{:.0f} ms", ms);
  if (ms < 100e3) return fmt::format("{:.1f} s", ms / 1e3);
  const auto s = static_cast<long long>(ms / 1e3);
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return fmt::format("{}d{:02}h", s / 86400, s / 3600 % 24);
}

std::string render_header(const json::object& node) {
  auto out = fmt::format("{}  {}", clean(text(node, "name")), upper(clean(text(node, "state"))));
  if (node.contains("uptime_seconds"))
    out += fmt::format("  up {}  cpu {:.1f} %  rss {:.0f} MB  kv {:.1f} %  {:.1f} tok/s  {} active",
                       format_duration(number(node, "uptime_seconds") * 1e3), number(node, "cpu_percent"),
                       number(node, "rss_mb"), number(node, "kv_percent"), number(node, "tokens_per_second"),
                       plain_number(number(node, "active_requests")));
  return out + fmt::format("  suspects {}\n", plain_number(number(node, "suspects")));
}

std::string render_result(const json::object& answer, std::size_t width) {
  if (const auto* error = answer.if_contains("error"); error != nullptr && error->is_object())
    return clean(text(error->get_object(), "message")) + "\n";
  const auto* result = answer.if_contains("result");
  if (result == nullptr || !result->is_object()) return "the answer has no result\n";
  const auto command = text(answer, "command");
  const auto& o = result->get_object();
  if (o.contains("done")) return clean(text(o, "message")) + "\n";

  // What says how to read a list is for machines; people see it.
  const bool only_lists = command == "top" || command == "ps";
  json::object scalars;
  std::vector<std::pair<std::string, const json::array*>> lists;
  const auto collect = [&](std::string_view key, const json::value& value) {
    if (value.is_array())
      lists.emplace_back(key, &value.get_array());
    else if (!only_lists)
      scalars[key] = value;
  };
  bool nested = false;
  for (const auto& [key, value] : o) {
    if (!value.is_object()) {
      collect(key, value);
      continue;
    }
    nested = true;
    for (const auto& [inner_key, inner] : value.get_object()) collect(inner_key, inner);
  }

  auto out = facts(scalars, width);
  for (const auto& [key, rows] : lists) {
    const bool titled = nested || rows != lists.front().second || command == "errors";
    if (!out.empty()) out += '\n';
    out += list(command, key, *rows, width, titled);
  }
  return out;
}

}  // namespace bitnet::console
