#include "actors/health_history.hpp"

#include "actors/health_render.hpp"
#include "actors/json_text.hpp"
#include "actors/time_format.hpp"

#include <boost/json.hpp>

namespace bitnet::actors {

namespace {

constexpr std::string_view server = "server";

std::string_view server_code(const health_snapshot& snapshot) {
  if (snapshot.cannot_heal) return "cannot_heal";
  if (snapshot.draining) return "draining";
  return snapshot.overall == health_status::healthy ? health_ok : "component";
}

boost::json::object to_json(const health_event& e) {
  boost::json::object o;
  o["sequence"] = e.sequence;
  o["timestamp"] = json_text(format_rfc3339(e.timestamp));
  o["uptime_ms"] = std::chrono::duration_cast<std::chrono::milliseconds>(e.uptime).count();
  o["component"] = json_text(e.component);
  o["event"] = json_text(e.from ? "transition" : "note");
  if (e.from) o["from"] = json_text(to_string(*e.from));
  o["status"] = json_text(to_string(e.status));
  o["code"] = json_text(e.code);
  o["message"] = json_text(e.message);
  return o;
}

}  // namespace

void health_history::record(health_event event) {
  event.sequence = ++recorded_;
  events_.push_back(std::move(event));
  if (events_.size() > capacity_) events_.pop_front();
}

void health_history::render() {
  boost::json::array all;
  for (const auto& e : events_) all.push_back(to_json(e));
  json_ = boost::json::serialize(all);
}

std::vector<health_event> health_history::observe(const health_snapshot& snapshot) {
  std::vector<health_event> found;
  const auto compare = [&](std::string_view who, health_status status, std::string_view code,
                           std::string_view message) {
    auto& known = known_[std::string(who)];
    if (known.status == status && known.code == code) return;
    if (known.status != status) ++transitions_[{std::string(who), status}];
    health_event e;
    e.timestamp = snapshot.timestamp;
    e.uptime = snapshot.uptime;
    e.component = who;
    e.from = known.status;
    e.status = status;
    e.code = code;
    e.message = message;
    record(std::move(e));
    found.push_back(events_.back());
    known = {status, std::string(code)};
  };
  for (const auto& c : snapshot.components) compare(c.name, c.status, c.code, c.message);
  compare(server, snapshot.overall, server_code(snapshot), snapshot.reason);
  if (!found.empty()) render();
  return found;
}

const health_event& health_history::note(health_event event, const health_snapshot& snapshot) {
  ++noted_[event.code];
  event.timestamp = snapshot.timestamp;
  event.uptime = snapshot.uptime;
  event.from.reset();
  record(std::move(event));
  render();
  return events_.back();
}

}  // namespace bitnet::actors
