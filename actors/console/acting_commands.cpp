#include "actors/console/actor_json.hpp"
#include "actors/console/commands.hpp"

#include <caf/all.hpp>
#include <fmt/format.h>

#include <array>

// Commands that change the server. Each sends a message and then watches the published facts for its effect:
// it never waits for an actor, which may hang.

namespace bitnet::actors {

namespace json = boost::json;

namespace {

bool can_drain(const console_sources& sources) {
  return sources.drain != nullptr;
}
bool can_cancel(const console_sources& sources) {
  return sources.cancel != nullptr && sources.streams != nullptr;
}
bool can_set_level(const console_sources& sources) {
  return sources.set_log_level != nullptr;
}
bool always(const console_sources&) {
  return true;
}

json::object outcome(bool done, std::string message) {
  return {{"done", done}, {"message", std::move(message)}};
}

command_result drain_or_not(const console_sources& sources, bool draining) {
  sources.drain(draining);
  command_result r;
  r.result = outcome(false, "asked, but not confirmed in time: the aggregator does not publish; see hung");
  r.later = [facts = sources.facts, draining]() -> std::optional<json::object> {
    const auto latest = facts();
    if (!latest.facts || latest.facts->draining != draining) return std::nullopt;
    return outcome(true, draining ? "draining: not ready, new requests are refused, running ones go on"
                                  : "takes requests again");
  };
  return r;
}

command_result drain(const console_sources& sources, const console_request&) {
  return drain_or_not(sources, true);
}

command_result undrain(const console_sources& sources, const console_request&) {
  return drain_or_not(sources, false);
}

tl::expected<process_record, std::string> choose(const console_sources& sources,
                                                 const console_request& request) {
  if (request.words.size() != 1) return tl::unexpected(std::string{"name one actor, by its id (ps)"});
  std::optional<process_record> found;
  for (auto& r : sources.actors->table.read()) {
    if (std::to_string(r.id) == request.words.front()) return r;
    if (r.name != request.words.front()) continue;
    if (found) return tl::unexpected(fmt::format("several actors are called {}; name one by its id", r.name));
    found = std::move(r);
  }
  if (!found) return tl::unexpected(fmt::format("there is no actor {}; see ps", request.words.front()));
  return *found;
}

command_result end(const console_sources& sources, const process_record& r, caf::exit_reason reason,
                   std::string when_gone) {
  const auto handle = sources.actors->directory.find(r.id);
  if (!handle) return refuse(fmt::format("actor {} has just ended", r.id));
  caf::anon_send_exit(caf::actor_cast<caf::actor>(handle), reason);
  command_result result;
  result.result = outcome(
      false, fmt::format("asked to end, and still there: it is in {}, and cannot end before that returns",
                         r.running_ns > 0 ? to_string(r.current) : "a message"));
  result.later = [inspected = sources.actors, id = r.id,
                  message = std::move(when_gone)]() -> std::optional<json::object> {
    for (const auto& each : inspected->table.read())
      if (each.id == id) return std::nullopt;
    return outcome(true, message);
  };
  return result;
}

command_result restart(const console_sources& sources, const console_request& request) {
  const auto chosen = choose(sources, request);
  if (!chosen) return refuse(chosen.error());
  if (!chosen->supervised)
    return refuse(
        fmt::format("nobody would start {} again; only supervised actors restart (tree)", chosen->name));
  return end(sources, *chosen, caf::exit_reason::user_shutdown,
             fmt::format("{} {}.{} ended; its supervisor starts the next incarnation", chosen->name,
                         chosen->id, chosen->incarnation));
}

command_result kill(const console_sources& sources, const console_request& request) {
  const auto chosen = choose(sources, request);
  if (!chosen) return refuse(chosen.error());
  return end(sources, *chosen, caf::exit_reason::kill,
             fmt::format("{} {} ended{}", chosen->name, chosen->id,
                         chosen->supervised ? "; its supervisor starts the next incarnation" : ""));
}

command_result cancel(const console_sources& sources, const console_request& request) {
  if (request.words.size() != 1) return refuse("name one request; streams lists them");
  for (const auto& s : sources.streams->streams()) {
    if (std::to_string(s->request) != request.words.front() && s->answer != request.words.front()) continue;
    sources.cancel(s->request);
    command_result r;
    r.result = outcome(false, "asked, but it still runs: its worker has not finished the step it is in");
    r.later = [board = sources.streams, id = s->request]() -> std::optional<json::object> {
      if (board->find(id)) return std::nullopt;
      return outcome(true, fmt::format("request {} is cancelled", id));
    };
    return r;
  }
  return refuse(fmt::format("no request {} is in flight; streams lists them", request.words.front()));
}

command_result loglevel(const console_sources& sources, const console_request& request) {
  if (request.words.size() != 1) return refuse("name a level: trace, debug, info, warning, error or off");
  const auto before = sources.log_level();
  if (!sources.set_log_level(request.words.front()))
    return refuse(fmt::format("{} is no level; there are trace, debug, info, warning, error and off",
                              request.words.front()));
  command_result r;
  r.result = outcome(true, fmt::format("log level {}, was {}", request.words.front(), before));
  return r;
}

}  // namespace

std::span<const console_command> acting_commands() {
  static const std::array commands{
      console_command{"drain", "", "not ready any more; running requests go on, new ones are refused", true,
                      can_drain, drain},
      console_command{"undrain", "", "take requests again", true, can_drain, undrain},
      console_command{"restart", "ID|NAME", "end a supervised actor, so that its supervisor starts it again",
                      true, always, restart},
      console_command{"kill", "ID|NAME", "end an actor; a busy one ends when its handler returns", true,
                      always, kill},
      console_command{"cancel", "REQUEST", "end a request; its client is told", true, can_cancel, cancel},
      console_command{"loglevel", "LEVEL", "least severe message that is logged", true, can_set_level,
                      loglevel},
  };
  return commands;
}

}  // namespace bitnet::actors
