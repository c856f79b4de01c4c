#include "apps/bitnet_console/session.hpp"

#include "apps/bitnet_console/render.hpp"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string_view>
#include <utility>
#include <vector>

namespace bitnet::console {

namespace json = boost::json;

namespace {

constexpr int round_trips = 50;
constexpr double follow_period = 0.5;
constexpr double live_period = 1;
constexpr std::string_view clear_screen = "\x1b[H\x1b[J";

exit_code judge(const json::object& answer, bool acts) {
  if (answer.contains("error")) return exit_code::degraded;
  if (const auto* partial = answer.if_contains("partial");
      partial != nullptr && partial->is_bool() && partial->get_bool())
    return exit_code::degraded;
  if (acts) {
    const auto* result = answer.if_contains("result");
    const auto* done =
        result != nullptr && result->is_object() ? result->get_object().if_contains("done") : nullptr;
    return done != nullptr && done->is_bool() && done->get_bool() ? exit_code::ok : exit_code::degraded;
  }
  const auto* node = answer.if_contains("node");
  if (node == nullptr || !node->is_object()) return exit_code::degraded;
  const auto* state = node->get_object().if_contains("state");
  const auto* suspects = node->get_object().if_contains("suspects");
  const bool well = state != nullptr && state->is_string() && state->get_string() == "healthy" &&
                    suspects != nullptr && suspects->is_int64() && suspects->get_int64() == 0;
  return well ? exit_code::ok : exit_code::degraded;
}

}  // namespace

std::string usage_text() {
  return R"(Usage: bitnet-console [OPTIONS] [COMMAND [ARGUMENTS]]

Looks inside a running bitnet-server, also where its actors hang. Without a COMMAND: an interactive
console; with one: its answer. "bitnet-console help" lists the commands of the server.

  --connect=WHERE     HOST:PORT, or the path of a socket; default: the only server on this machine
  --json              answers as JSON, one line each; the schema is in docs/console.md
  --watch[=SECONDS]   again and again; default every 2 s
  --write             allow commands that change the server
  --yes               do not ask before such a command
  --help, --version

Exit codes: 0 healthy; 1 degraded, or the command was refused or not confirmed; 2 no server reached;
64 wrong usage.
)";
}

exit_code session::unreachable(const std::string& why) {
  screen_.err(fmt::format("bitnet-console: {}\n", why));
  return exit_code::unreachable;
}

exit_code session::misused(const std::string& why) {
  screen_.err(fmt::format("bitnet-console: {}\n", why));
  return exit_code::usage;
}

std::string session::prompt() const {
  return fmt::format("{}{} ", server_.node(), write_ ? "#" : ">");
}

exit_code session::run(const invocation& what) {
  if (what.command == "help" || what.help) return help(what);
  const auto* command = server_.find(what.command);
  if (command == nullptr)
    return misused(fmt::format("there is no command {}; help lists them", what.command));
  for (const auto& [name, value] : what.options) {
    const auto spelled = name == "follow" ? std::string("-f") : "--" + name;
    if (name != "after" && command->usage.find(spelled) == std::string::npos)
      return misused(
          fmt::format("{} takes no {}; usage: {} {}", command->name, spelled, command->name, command->usage));
  }
  if (command->acts && !confirmed(what, *command)) return exit_code::degraded;
  if (what.option("follow")) return follow(what, *command);
  if (what.watch && command->acts) return misused("--watch is for commands that only look");
  if (what.watch) return repeat(what, *command, *what.watch);
  // As top does elsewhere.
  if (command->name == "top" && screen_.interactive && !what.json) return repeat(what, *command, live_period);
  return once(what, *command);
}

json::object session::request_of(const invocation& what, const remote_command& command) const {
  json::array words(what.words.begin(), what.words.end());
  json::object options;
  for (const auto& [name, value] : what.options) options[name] = value;
  json::object request{
      {"command", command.name}, {"arguments", std::move(words)}, {"options", std::move(options)}};
  if (command.acts) request["write"] = write_ || what.write;
  return request;
}

bool session::confirmed(const invocation& what, const remote_command& command) {
  if (!write_ && !what.write) {
    screen_.err(fmt::format("bitnet-console: {} changes the server; start bitnet-console with --write\n",
                            command.name));
    return false;
  }
  if (what.yes) return true;
  if (!screen_.confirm) {
    screen_.err(fmt::format("bitnet-console: nobody to confirm {}; add --yes\n", command.name));
    return false;
  }
  std::string line = command.name;
  for (const auto& word : what.words) line += " " + word;
  const auto reply = screen_.confirm(fmt::format("{} on {}? [y/N] ", line, server_.node()));
  return reply == "y" || reply == "Y" || reply == "yes";
}

exit_code session::show(const invocation& what, const json::object& answer, bool with_header) {
  const auto* command = server_.find(what.command);
  const auto code = judge(answer, command != nullptr && command->acts);
  if (what.json) {
    screen_.out(json::serialize(answer) + "\n");
    return code;
  }
  const auto text = render_result(answer, screen_.width);
  if (answer.contains("error")) {
    screen_.err("bitnet-console: " + text);
    return code;
  }
  if (with_header)
    if (const auto* node = answer.if_contains("node"); node != nullptr && node->is_object())
      screen_.out(render_header(node->get_object()) + "\n");
  screen_.out(text);
  return code;
}

void session::measure_round_trips(const json::object& request, json::object& answer) {
  std::vector<double> us;
  for (int i = 0; i < round_trips; ++i) {
    const auto began = std::chrono::steady_clock::now();
    if (!server_.ask(request)) return;
    us.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - began).count());
  }
  std::sort(us.begin(), us.end());
  auto* result = answer.if_contains("result");
  if (result == nullptr || !result->is_object()) return;
  result->get_object()["console"] = {
      {"round_trips", round_trips}, {"p50_us", us[us.size() / 2]}, {"p99_us", us[us.size() * 99 / 100]}};
}

exit_code session::once(const invocation& what, const remote_command& command) {
  const auto request = request_of(what, command);
  auto answer = server_.ask(request);
  if (!answer) return unreachable(answer.error());
  if (command.name == "latency") measure_round_trips(request, *answer);
  return show(what, *answer, !command.acts);
}

exit_code session::repeat(const invocation& what, const remote_command& command, double seconds) {
  const auto request = request_of(what, command);
  for (;;) {
    const auto answer = server_.ask(request);
    if (!answer) return unreachable(answer.error());
    if (screen_.interactive && !what.json) screen_.out(std::string(clear_screen));
    const auto code = show(what, *answer, true);
    if (screen_.interactive && !what.json) screen_.out("\nq or Enter ends\n");
    if (answer->contains("error") || stopped_within(seconds, screen_.interactive)) return code;
    if (!screen_.interactive && !what.json) screen_.out("\n");
  }
}

exit_code session::follow(const invocation& what, const remote_command& command) {
  auto next = what;
  std::erase_if(next.options, [](const auto& option) { return option.first == "follow"; });
  for (;;) {
    const auto answer = server_.ask(request_of(next, command));
    if (!answer) return unreachable(answer.error());
    if (answer->contains("error")) return show(next, *answer, false);
    const auto& events = answer->at("result").as_object().at("events").as_array();
    for (const auto& each : events) {
      const auto& e = each.as_object();
      if (what.json)
        screen_.out(json::serialize(e) + "\n");
      else
        screen_.out(render_result({{"command", "event"},
                                   {"result",
                                    {{"done", true},
                                     {"message", fmt::format("{}  {}  {}", e.at("time").as_string().c_str(),
                                                             e.at("level").as_string().c_str(),
                                                             e.at("text").as_string().c_str())}}}},
                                  0));
    }
    if (!events.empty()) {
      std::erase_if(next.options, [](const auto& o) { return o.first == "after" || o.first == "limit"; });
      next.options.emplace_back(
          "after", std::to_string(events.back().as_object().at("number").to_number<std::uint64_t>()));
      next.options.emplace_back("limit", "1000");
    }
    if (stopped_within(follow_period, screen_.interactive)) return exit_code::ok;
  }
}

exit_code session::help(const invocation& what) {
  const auto wanted = what.command == "help" ? (what.words.empty() ? "" : what.words.front()) : what.command;
  if (!wanted.empty()) {
    const auto* command = server_.find(wanted);
    if (command == nullptr) return misused(fmt::format("there is no command {}; help lists them", wanted));
    screen_.out(fmt::format(
        "{} {}\n  {}{}\n", command->name, command->usage, command->summary,
        command->acts ? "\n  Changes the server: only with --write, confirmed, and logged there." : ""));
    return exit_code::ok;
  }
  std::string text = "Look:\n";
  for (const auto& c : server_.commands())
    if (!c.acts) text += fmt::format("  {:<10} {}\n", c.name, c.summary);
  text += fmt::format("\nAct{}:\n", write_ || what.write ? "" : " (start bitnet-console with --write)");
  for (const auto& c : server_.commands())
    if (c.acts) text += fmt::format("  {:<10} {}\n", c.name, c.summary);
  text +=
      "\nhelp COMMAND tells its arguments. Behind any command: --json, --watch=SECONDS.\n"
      "In the console: Tab completes, the up key brings back, quit or Ctrl-D leaves.\n"
      "Where to begin: health --why, then hung, then top.\n";
  screen_.out(text);
  return exit_code::ok;
}

}  // namespace bitnet::console
