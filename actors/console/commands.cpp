#include "actors/console/commands.hpp"

#include "actors/console/frames.hpp"

#include <boost/json/array.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace bitnet::actors {

namespace json = boost::json;

namespace {

constexpr std::chrono::milliseconds act_patience{2'000};
constexpr std::size_t max_words = 16;
constexpr std::size_t max_word = 256;

/// Text from a stranger that goes into a line of the log.
std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return text;
}

std::optional<std::string> short_string(const json::value* value) {
  if (value == nullptr || !value->is_string() || value->get_string().size() > max_word) return std::nullopt;
  return std::string(value->get_string());
}

/// Nothing where the request has not the shape that docs/console.md gives.
std::optional<console_request> parse(const json::object& from) {
  console_request request;
  const auto command = short_string(from.if_contains("command"));
  if (!command) return std::nullopt;
  request.command = *command;
  if (const auto* words = from.if_contains("arguments")) {
    if (!words->is_array() || words->get_array().size() > max_words) return std::nullopt;
    for (const auto& word : words->get_array()) {
      auto text = short_string(&word);
      if (!text) return std::nullopt;
      request.words.push_back(std::move(*text));
    }
  }
  if (const auto* options = from.if_contains("options")) {
    if (!options->is_object() || options->get_object().size() > max_words) return std::nullopt;
    for (const auto& [name, value] : options->get_object())
      if (!short_string(&value)) return std::nullopt;
    request.options = options->get_object();
  }
  if (const auto* write = from.if_contains("write")) {
    if (!write->is_bool()) return std::nullopt;
    request.write = write->get_bool();
  }
  return request;
}

double round_to(double value, double steps) {
  return std::round(value * steps) / steps;
}

}  // namespace

std::optional<std::string> console_request::option(std::string_view name) const {
  const auto* value = options.if_contains(name);
  return value == nullptr ? std::nullopt : std::optional(std::string(value->get_string()));
}

command_dispatcher::command_dispatcher(console_sources sources) : sources_(std::move(sources)) {
  for (const auto group : {service_commands(), actor_commands(), acting_commands()})
    for (const auto& command : group)
      if (command.available(sources_)) commands_.push_back(&command);
}

json::object command_dispatcher::hello() const {
  json::array commands;
  for (const auto* command : commands_)
    commands.push_back({{"name", command->name},
                        {"usage", command->usage},
                        {"summary", command->summary},
                        {"acts", command->acts}});
  const auto latest = sources_.facts();
  return {{"server", "bitnet-server"},
          {"version", latest.facts ? latest.facts->build.version : ""},
          {"node", sources_.cluster->self()},
          {"commands", std::move(commands)}};
}

const console_command* command_dispatcher::find(std::string_view name) const {
  const auto found = std::find_if(commands_.begin(), commands_.end(),
                                  [&](const console_command* c) { return c->name == name; });
  return found == commands_.end() ? nullptr : *found;
}

json::object command_dispatcher::node() const {
  json::object node{{"name", sources_.cluster->self()}};
  const auto records = sources_.actors->table.read();
  const auto suspects =
      std::count_if(records.begin(), records.end(), [](const process_record& r) { return r.suspect(); });
  const auto latest = sources_.facts();
  if (!latest.facts) {
    node["state"] = "starting";
    node["suspects"] = suspects;
    return node;
  }
  const auto& f = *latest.facts;
  const bool stale = latest.age > snapshot_store::stale_after;
  node["state"] = stale ? "stuck" : f.draining ? "draining" : to_string(f.overall);
  node["uptime_seconds"] = std::chrono::duration_cast<std::chrono::seconds>(f.uptime).count();
  node["cpu_percent"] = round_to(f.metrics.cpu_usage_percent, 10);
  node["rss_mb"] = round_to(f.metrics.memory_usage_mb, 10);
  node["kv_percent"] = f.engine.kv_blocks_total == 0
                           ? 0.0
                           : round_to(100.0 * static_cast<double>(f.engine.kv_blocks_used) /
                                          static_cast<double>(f.engine.kv_blocks_total),
                                      10);
  node["tokens_per_second"] = round_to(f.metrics.tokens_per_second, 10);
  node["active_requests"] = f.metrics.active_requests;
  node["suspects"] = suspects;
  node["snapshot_age_ms"] = std::chrono::duration_cast<std::chrono::milliseconds>(latest.age).count();
  return node;
}

json::object command_dispatcher::envelope(const std::string& command, const command_result& result) const {
  json::object answer{{"schema", console::schema}, {"command", command}, {"node", node()}};
  if (!result.error.empty())
    answer["error"] = {{"code", "refused"}, {"message", result.error}};
  else
    answer["result"] = result.result;
  answer["partial"] = result.partial;
  return answer;
}

console::reply command_dispatcher::answer(const json::object& from, const console::peer& peer) const {
  const auto request = parse(from);
  const auto refuse = [&](const std::string& command, std::string why) {
    command_result r;
    r.error = std::move(why);
    return console::reply{envelope(command, r), nullptr, {}};
  };
  if (!request) return refuse("", "the request is malformed; see docs/console.md");
  const auto* command = find(request->command);
  if (command == nullptr)
    return refuse(printable(request->command),
                  fmt::format("there is no command {}; help lists them", printable(request->command)));
  if (!command->acts) return {envelope(request->command, command->run(sources_, *request)), nullptr, {}};

  const auto audit = [&](std::string_view outcome) {
    if (sources_.audit)
      sources_.audit(fmt::format("console: {}: {} {}: {}", peer.describe(), command->name,
                                 printable(fmt::format("{}", fmt::join(request->words, " "))), outcome));
  };
  if (!peer.local_socket) {
    audit("refused, not through the local socket");
    return refuse(request->command,
                  "acting commands come through the local socket only, which has an owner; "
                  "run bitnet-console on the server's machine");
  }
  if (!request->write) {
    audit("refused, without --write");
    return refuse(request->command, "this changes the server; start bitnet-console with --write");
  }
  auto result = command->run(sources_, *request);
  audit(result.error.empty() ? "accepted" : result.error);
  console::reply reply{envelope(request->command, result), nullptr, act_patience};
  if (result.later)
    reply.later = [this, name = request->command,
                   later = std::move(result.later)]() -> std::optional<json::object> {
      auto done = later();
      if (!done) return std::nullopt;
      command_result r;
      r.result = std::move(*done);
      return envelope(name, r);
    };
  return reply;
}

bool is_secret(std::string_view key) {
  // By words, so that engine.kernels and drain.timeout are none, and http.api-keys is one. A file's path is
  // shown: it says where the secret is, not what.
  std::vector<std::string_view> words;
  for (std::size_t at = 0; at <= key.size();) {
    const auto end = std::min(key.find_first_of(".-_", at), key.size());
    words.push_back(key.substr(at, end - at));
    at = end + 1;
  }
  if (words.back() == "file" || words.back() == "path") return false;
  return std::any_of(words.begin(), words.end(), [](std::string_view w) {
    return w == "key" || w == "keys" || w == "secret" || w == "secrets" || w == "password" ||
           w == "passphrase" || w == "token" || w == "credential" || w == "credentials";
  });
}

}  // namespace bitnet::actors
