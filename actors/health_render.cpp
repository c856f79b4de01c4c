#include "actors/health_render.hpp"

#include "actors/json_text.hpp"
#include "actors/time_format.hpp"

#include <boost/json.hpp>
#include <fmt/format.h>

#include <cmath>
#include <string_view>
#include <utility>

namespace bitnet::actors {

namespace json = boost::json;

namespace {

constexpr std::string_view json_type = "application/json";
constexpr std::string_view metrics_type = "text/plain; version=0.0.4; charset=utf-8";

std::string header(unsigned status, std::string_view type, std::size_t length, bool keep_alive,
                   std::string_view date) {
  return fmt::format(
      "HTTP/1.1 {}\r\nDate: {}\r\nContent-Type: {}\r\nCache-Control: no-store\r\n"
      "Content-Length: {}\r\n{}\r\n",
      status == 200 ? "200 OK" : "503 Service Unavailable", date, type, length,
      keep_alive ? "" : "Connection: close\r\n");
}

rendered_answer answer(unsigned status, std::string_view type, std::string body, std::string_view date) {
  rendered_answer result;
  result.header_keep_alive = header(status, type, body.size(), true, date);
  result.header_close = header(status, type, body.size(), false, date);
  result.body = std::move(body);
  return result;
}

json::object render_build(const build_info& build) {
  json::object o;
  o["version"] = json_text(build.version);
  o["git_sha"] = json_text(build.git_sha);
  o["git_branch"] = json_text(build.git_branch);
  o["build_timestamp"] = json_text(build.build_timestamp);
  // The names of the schema that we are compatible with, and then what they mean here.
  o["rustc_version"] = json_text(build.compiler_version);
  o["cargo_target"] = json_text(build.target);
  o["cargo_profile"] = json_text(build.profile);
  o["compiler_version"] = json_text(build.compiler_version);
  o["target"] = json_text(build.target);
  o["profile"] = json_text(build.profile);
  if (!build.cuda_version.empty()) o["cuda_version"] = json_text(build.cuda_version);
  return o;
}

json::object render_component(const component_health& component) {
  using std::chrono::duration_cast;
  json::object o;
  o["status"] = json_text(to_string(component.status));
  o["message"] = json_text(component.message);
  o["code"] = json_text(component.code);
  o["last_check"] = json_text(format_rfc3339(component.last_check));
  o["response_time_ms"] = duration_cast<std::chrono::milliseconds>(component.response_time).count();
  o["response_time_us"] = duration_cast<std::chrono::microseconds>(component.response_time).count();
  return o;
}

/// A figure with at most three decimals, in plain notation: Boost.JSON would write 23.5 as 2.35E1.
double figure(double value) noexcept {
  return std::isfinite(value) ? std::round(value * 1000.0) / 1000.0 : 0.0;
}

std::string render_metrics(const health_metrics& m) {
  return fmt::format(
      R"({{"active_requests":{},"total_requests":{},"error_rate_percent":{},"avg_response_time_ms":{},)"
      R"("memory_usage_mb":{},"tokens_per_second":{},"cpu_usage_percent":{}{}}})",
      m.active_requests, m.total_requests, figure(m.error_rate_percent), figure(m.avg_response_time_ms),
      figure(m.memory_usage_mb), figure(m.tokens_per_second), figure(m.cpu_usage_percent),
      m.gpu_memory_mb ? fmt::format(R"(,"gpu_memory_mb":{})", figure(*m.gpu_memory_mb)) : std::string());
}

std::string status_body(health_status status, std::string_view timestamp, std::string_view reason = {}) {
  json::object o;
  o["status"] = json_text(to_string(status));
  o["timestamp"] = json_text(timestamp);
  if (!reason.empty()) o["reason"] = json_text(reason);
  return json::serialize(o);
}

}  // namespace

std::string_view to_string(health_status status) noexcept {
  switch (status) {
    case health_status::healthy:
      return "healthy";
    case health_status::degraded:
      return "degraded";
    case health_status::unhealthy:
      return "unhealthy";
  }
  return "unhealthy";
}

unsigned health_status_code(const health_snapshot& snapshot, const render_options& options) noexcept {
  switch (snapshot.overall) {
    case health_status::healthy:
      return 200;
    case health_status::degraded:
      return options.degraded_ok ? 200 : 503;
    case health_status::unhealthy:
      return 503;
  }
  return 503;
}

unsigned ready_status_code(const health_snapshot& snapshot) noexcept {
  return snapshot.overall == health_status::healthy && !snapshot.draining ? 200 : 503;
}

json::object render_kind(const engine_kind& kind) {
  json::object o;
  o["device"] = json_text(kind.device);
  o["kernels"] = json_text(kind.kernels);
  o["lm_head"] = json_text(kind.lm_head);
  return o;
}

/// Who to look at, and to send signals to; 0 stands for none.
json::object render_processes(const engine_sample& engine) {
  json::object o;
  o["server"] = getpid();
  o["loader"] = engine.loader_pid;
  o["engine"] = engine.engine_pids.empty() ? 0 : engine.engine_pids.front();
  if (engine.engine_pids.size() > 1) o["engines"] = json::value_from(engine.engine_pids);
  o["worker_restarts"] = engine.worker_restarts;
  return o;
}

unsigned live_status_code(const health_snapshot& snapshot, bool in_grace) noexcept {
  return snapshot.cannot_heal || in_grace ? 503 : 200;
}

std::string render_health_json(const health_snapshot& snapshot) {
  json::object components;
  for (const auto& component : snapshot.components) components[component.name] = render_component(component);
  json::object o;
  o["status"] = json_text(to_string(snapshot.overall));
  o["timestamp"] = json_text(format_rfc3339(snapshot.timestamp));
  o["uptime_seconds"] = std::chrono::duration_cast<std::chrono::seconds>(snapshot.uptime).count();
  o["version"] = json_text(snapshot.build.version);
  if (!snapshot.reason.empty()) o["reason"] = json_text(snapshot.reason);
  o["draining"] = snapshot.draining;
  o["build"] = render_build(snapshot.build);
  o["engine"] = render_kind(snapshot.kind);
  o["components"] = std::move(components);
  o["processes"] = render_processes(snapshot.engine);
  auto body = json::serialize(o);
  body.pop_back();
  return body + ",\"metrics\":" + render_metrics(snapshot.metrics) + "}";
}

std::unique_ptr<rendered_snapshot> render(const health_snapshot& snapshot, const render_options& options,
                                          std::string metrics_text, const health_history& history) {
  const auto date = format_http_date(snapshot.timestamp);
  const auto timestamp = format_rfc3339(snapshot.timestamp);
  auto result = std::make_unique<rendered_snapshot>();
  auto set = [&](probe which, unsigned status, std::string_view type, std::string body) {
    result->answers[static_cast<std::size_t>(which)] = answer(status, type, std::move(body), date);
  };
  auto health = render_health_json(snapshot);
  // The history, "events" and how many older ones are gone, as the last members of an object.
  const auto events = fmt::format(R"("events":{},"events_dropped":{}}})", history.json(), history.dropped());
  set(probe::history, health_status_code(snapshot, options), json_type,
      health.substr(0, health.size() - 1) + "," + events);
  set(probe::events, 200, json_type,
      fmt::format(R"({{"status":"{}","timestamp":"{}",{})", to_string(snapshot.overall), timestamp, events));
  set(probe::health, health_status_code(snapshot, options), json_type, std::move(health));
  set(probe::ready, ready_status_code(snapshot), json_type,
      status_body(snapshot.overall, timestamp, snapshot.reason));
  set(probe::live, live_status_code(snapshot, false), json_type,
      status_body(snapshot.cannot_heal ? health_status::unhealthy : health_status::healthy, timestamp));
  set(probe::metrics, 200, metrics_type, std::move(metrics_text));
  result->live_in_grace = answer(
      live_status_code(snapshot, true), json_type,
      status_body(snapshot.cannot_heal ? health_status::unhealthy : health_status::degraded, timestamp),
      date);
  return result;
}

rendered_answer render_stale(probe which, std::chrono::nanoseconds age, wall_time now) {
  const auto what = age == std::chrono::nanoseconds::max()
                        ? std::string("aggregator stuck: it has not published a snapshot yet")
                        : fmt::format("aggregator stuck: the last snapshot is {} ms old",
                                      std::chrono::duration_cast<std::chrono::milliseconds>(age).count());
  const auto date = format_http_date(now);
  if (which == probe::metrics) return answer(503, metrics_type, "# stale: " + what + "\n", date);
  return answer(503, json_type, status_body(health_status::unhealthy, format_rfc3339(now), what), date);
}

}  // namespace bitnet::actors
