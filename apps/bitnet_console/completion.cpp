#include "apps/bitnet_console/completion.hpp"

#include "apps/bitnet_console/invocation.hpp"

#include <boost/json/array.hpp>

#include <set>
#include <string_view>

namespace bitnet::console {

namespace json = boost::json;

namespace {

/// The values of some keys in the rows of a command's list, as words.
void add_live(client& server, std::string_view command, std::string_view list,
              const std::vector<std::string_view>& keys, std::set<std::string>& into) {
  const auto answer = server.ask({{"command", command}});
  if (!answer) return;
  const auto* result = answer->if_contains("result");
  const auto* rows =
      result != nullptr && result->is_object() ? result->get_object().if_contains(list) : nullptr;
  if (rows == nullptr || !rows->is_array()) return;
  for (const auto& row : rows->get_array())
    for (const auto key : keys) {
      const auto* value = row.is_object() ? row.get_object().if_contains(key) : nullptr;
      if (value == nullptr) continue;
      if (value->is_string()) into.emplace(value->get_string());
      if (value->is_int64()) into.insert(std::to_string(value->get_int64()));
    }
}

/// The "--..." of a usage line, with each choice of "--by=a|b".
void add_options(const std::string& usage, std::set<std::string>& into) {
  for (auto at = usage.find("--"); at != std::string::npos; at = usage.find("--", at + 2)) {
    const auto option = usage.substr(at, usage.find_first_of(" ]", at) - at);
    const auto equals = option.find('=');
    if (equals == std::string::npos || option.find('|') == std::string::npos) {
      into.insert(option.substr(0, equals == std::string::npos ? equals : equals + 1));
      continue;
    }
    for (auto from = equals + 1; from <= option.size();) {
      const auto end = std::min(option.find('|', from), option.size());
      into.insert(option.substr(0, equals + 1) + option.substr(from, end - from));
      from = end + 1;
    }
  }
  if (usage.find("-f") != std::string::npos) into.insert("-f");
}

}  // namespace

std::vector<std::string> completions(client& server, const std::string& before) {
  std::set<std::string> found;
  const auto words = split_line(before);
  if (!words) return {};
  const bool naming = words->empty() || (words->size() == 1 && words->front() == "help");
  if (naming) {
    for (const auto& c : server.commands()) found.insert(c.name);
    if (words->empty()) found.insert({"help", "quit"});
    return {found.begin(), found.end()};
  }
  if (words->front() == "latency") add_live(server, "nodes", "nodes", {"name"}, found);
  const auto* command = server.find(words->front());
  if (command == nullptr) return {found.begin(), found.end()};
  add_options(command->usage, found);
  found.insert({"--json", "--watch="});
  if (command->usage.find("NAME") != std::string::npos)
    add_live(server, "ps", "actors", {"name", "id"}, found);
  if (command->name == "request" || command->name == "cancel")
    add_live(server, "streams", "streams", {"request", "answer"}, found);
  if (command->name == "loglevel") found.insert({"trace", "debug", "info", "warning", "error", "off"});
  return {found.begin(), found.end()};
}

}  // namespace bitnet::console
