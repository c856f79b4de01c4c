#include "actors/console/actor_json.hpp"
#include "actors/console/commands.hpp"
#include "actors/time_format.hpp"

#include <boost/json/array.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <array>

// Commands that read the published snapshot, the boards and the log.

namespace bitnet::actors {

namespace json = boost::json;

namespace {

bool always(const console_sources&) {
  return true;
}
bool has_streams(const console_sources& sources) {
  return sources.streams != nullptr;
}
bool has_events(const console_sources& sources) {
  return sources.events != nullptr;
}
bool has_settings(const console_sources& sources) {
  return !sources.settings.empty();
}

command_result show(json::object result) {
  command_result r;
  r.result = std::move(result);
  return r;
}

std::uint64_t age_ms(const snapshot_store::latest_facts& latest) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(latest.age).count());
}

// --- health
// ----------------------------------------------------------------------------------------------------

json::array components_of(const health_snapshot& f) {
  json::array rows;
  for (const auto& c : f.components)
    rows.push_back({{"name", c.name},
                    {"status", to_string(c.status)},
                    {"critical", c.critical},
                    {"message", c.message},
                    {"last_check", format_rfc3339(c.last_check)}});
  return rows;
}

json::array reasons_of(const console_sources& sources, const snapshot_store::latest_facts& latest) {
  json::array reasons;
  const auto& f = *latest.facts;
  if (latest.age > snapshot_store::stale_after)
    reasons.push_back(json::string(fmt::format(
        "the aggregator has published nothing for {:.1f} s: every probe answers 503, and all that follows "
        "was true then",
        static_cast<double>(age_ms(latest)) / 1e3)));
  if (f.draining) reasons.push_back("the server is draining: readiness answers 503");
  for (const auto& c : f.components)
    if (c.status != health_status::healthy)
      reasons.push_back(json::string(fmt::format("{} is {}: {}", c.name, to_string(c.status), c.message)));
  if (f.cannot_heal) reasons.push_back(json::string("liveness fails, this process cannot heal: " + f.reason));
  for (const auto& r : sources.actors->table.read())
    if (r.suspect())
      reasons.push_back(json::string(fmt::format("actor {} ({}): {}", r.name, r.id, why_suspect(r))));
  return reasons;
}

command_result health(const console_sources& sources, const console_request& request) {
  const auto latest = sources.facts();
  if (!latest.facts) return refuse("nothing has been published yet; try again in a second");
  json::object result{{"status", to_string(latest.facts->overall)},
                      {"draining", latest.facts->draining},
                      {"snapshot_age_ms", age_ms(latest)},
                      {"components", components_of(*latest.facts)}};
  if (request.option("why")) result["why"] = reasons_of(sources, latest);
  return show(std::move(result));
}

// --- engine
// ----------------------------------------------------------------------------------------------------

command_result engine(const console_sources& sources, const console_request&) {
  const auto latest = sources.facts();
  if (!latest.facts) return refuse("nothing has been published yet; try again in a second");
  const auto& e = latest.facts->engine;
  return show({{"engine",
                {{"workers", e.workers},
                 {"worker_restarts", e.worker_restarts},
                 {"running", e.running},
                 {"queued", e.queued},
                 {"queue_capacity", e.queue_capacity},
                 {"steps", e.steps},
                 {"step_p99_ms", milliseconds_of(static_cast<std::int64_t>(e.step_seconds_p99 * 1e9))},
                 {"prompt_tokens", e.prompt_tokens},
                 {"cached_tokens", e.cached_tokens},
                 {"generated_tokens", e.generated_tokens},
                 {"tokens_per_second", tenths(latest.facts->metrics.tokens_per_second)},
                 {"failed_sequences", e.failed_sequences},
                 {"preemptions", e.preemptions},
                 {"canary_runs", e.canary_runs}}},
               {"snapshot_age_ms", age_ms(latest)}});
}

command_result kv(const console_sources& sources, const console_request&) {
  const auto latest = sources.facts();
  if (!latest.facts) return refuse("nothing has been published yet; try again in a second");
  const auto& e = latest.facts->engine;
  const auto percent = e.kv_blocks_total == 0 ? 0.0
                                              : 100.0 * static_cast<double>(e.kv_blocks_used) /
                                                    static_cast<double>(e.kv_blocks_total);
  return show({{"kv",
                {{"blocks_used", e.kv_blocks_used},
                 {"blocks_total", e.kv_blocks_total},
                 {"used_percent", tenths(percent)},
                 {"preemptions", e.preemptions},
                 {"cached_tokens", e.cached_tokens},
                 {"prompt_tokens", e.prompt_tokens}}},
               {"snapshot_age_ms", age_ms(latest)}});
}

// --- streams
// ---------------------------------------------------------------------------------------------------

json::object describe(const stream_record& s, std::chrono::steady_clock::time_point now) {
  using ns = std::chrono::nanoseconds;
  const auto now_ns = ns(now.time_since_epoch()).count();
  const auto first = s.first_token_ns.load(std::memory_order_relaxed);
  const auto last = s.last_token_ns.load(std::memory_order_relaxed);
  const auto generated = s.generated_tokens.load(std::memory_order_relaxed);
  const auto started = ns(s.started.time_since_epoch()).count();
  // From the first token on, which the prefill delays.
  const auto rate = generated > 1 && last > first
                        ? static_cast<double>(generated - 1) * 1e9 / static_cast<double>(last - first)
                        : 0.0;
  return {
      {"request", s.request},
      {"answer", s.answer},
      {"kind", s.kind},
      {"streamed", s.streamed},
      {"age_ms", milliseconds_of(now_ns - started)},
      {"prompt_tokens", s.prompt_tokens},
      {"generated_tokens", generated},
      {"max_tokens", s.max_tokens},
      {"first_token_ms", first == 0 ? json::value(nullptr) : json::value(milliseconds_of(first - started))},
      {"silent_ms", milliseconds_of(now_ns - (last == 0 ? started : last))},
      {"tokens_per_second", tenths(rate)},
      {"actor", s.exchange}};
}

command_result streams(const console_sources& sources, const console_request&) {
  json::array rows;
  const auto now = std::chrono::steady_clock::now();
  for (const auto& s : sources.streams->streams()) rows.push_back(describe(*s, now));
  return show({{"streams", std::move(rows)}});
}

command_result request_details(const console_sources& sources, const console_request& request) {
  if (request.words.size() != 1) return refuse("name one request; streams lists them");
  const auto& wanted = request.words.front();
  for (const auto& s : sources.streams->streams())
    if (std::to_string(s->request) == wanted || s->answer == wanted)
      return show({{"request", describe(*s, std::chrono::steady_clock::now())}});
  return refuse(fmt::format("no request {} is in flight; streams lists them", wanted));
}

// --- log
// -------------------------------------------------------------------------------------------------------

std::string_view name_of(event_level level) {
  static constexpr std::array<std::string_view, 6> names{"trace",   "debug", "info",
                                                         "warning", "error", "critical"};
  return names[static_cast<std::size_t>(level)];
}

json::array describe(const std::vector<logged_event>& events) {
  json::array rows;
  for (const auto& e : events)
    rows.push_back({{"number", e.number},
                    {"time", format_rfc3339(e.time)},
                    {"level", name_of(e.level)},
                    {"text", e.text}});
  return rows;
}

command_result events(const console_sources& sources, const console_request& request) {
  const auto after = number_option(request, "after", 0, ~std::uint64_t{0}, 0);
  const auto limit = number_option(request, "limit", 1, 1'000, 50);
  if (!after || !limit) return refuse("--after is a number, --limit one from 1 to 1000");
  return show({{"events", describe(sources.events->events(*after, *limit))}});
}

command_result errors(const console_sources& sources, const console_request& request) {
  const auto limit = number_option(request, "limit", 1, 1'000, 20);
  if (!limit) return refuse("--limit is a number from 1 to 1000");
  json::array ends;
  const auto failures = sources.actors->table.failures();
  const auto first = failures.size() > *limit ? failures.size() - *limit : 0;
  for (auto i = first; i < failures.size(); ++i)
    ends.push_back({{"time", format_rfc3339(failures[i].time)},
                    {"id", failures[i].id},
                    {"name", failures[i].name},
                    {"incarnation", failures[i].incarnation},
                    {"reason", failures[i].reason}});
  return show({{"failures", std::move(ends)}, {"log", describe(sources.events->problems(0, *limit))}});
}

// --- configuration, version
// ------------------------------------------------------------------------------------

command_result config(const console_sources& sources, const console_request& request) {
  const bool all = request.option("effective").has_value();
  json::array rows;
  for (const auto& s : sources.settings) {
    const bool changed = s.value != s.default_value;
    if (!all && !changed) continue;
    const bool hidden = is_secret(s.key);
    rows.push_back({{"key", s.key},
                    {"value", hidden ? (s.value.empty() ? "" : "(hidden)") : s.value},
                    {"default", hidden ? "(hidden)" : s.default_value},
                    {"changed", changed}});
  }
  return show({{"settings", std::move(rows)}});
}

command_result version(const console_sources& sources, const console_request&) {
  const auto latest = sources.facts();
  if (!latest.facts) return refuse("nothing has been published yet; try again in a second");
  const auto& b = latest.facts->build;
  return show({{"version",
                {{"version", b.version},
                 {"git_sha", b.git_sha},
                 {"git_branch", b.git_branch},
                 {"built", b.build_timestamp},
                 {"compiler", b.compiler_version},
                 {"target", b.target},
                 {"profile", b.profile}}}});
}

// --- cluster
// ---------------------------------------------------------------------------------------------------

command_result nodes(const console_sources& sources, const console_request&) {
  return show({{"nodes", sources.cluster->members()}});
}

command_result members(const console_sources& sources, const console_request&) {
  return show({{"members", sources.cluster->members()}});
}

command_result routes(const console_sources& sources, const console_request&) {
  return show({{"routes", sources.cluster->routes()}});
}

command_result latency(const console_sources& sources, const console_request& request) {
  json::array rows;
  for (const auto& member : sources.cluster->members()) {
    const std::string name(member.at("name").as_string());
    if (!request.words.empty() && name != request.words.front()) continue;
    const auto round_trip = sources.cluster->round_trip_us(name);
    rows.push_back({{"node", name}, {"round_trip_us", round_trip ? json::value(*round_trip) : nullptr}});
  }
  if (rows.empty())
    return refuse(fmt::format("there is no node {}; nodes lists them", request.words.front()));
  return show({{"latency", std::move(rows)}});
}

}  // namespace

std::span<const console_command> service_commands() {
  static const std::array commands{
      console_command{"health", "[--why]", "status of each component, and why it is not healthy", false,
                      always, health},
      console_command{"engine", "", "what the inference engine does and did", false, always, engine},
      console_command{"kv", "", "the KV cache", false, always, kv},
      console_command{"streams", "", "requests that are being answered", false, has_streams, streams},
      console_command{"request", "ID", "one of them, by the id that streams shows or the answer has", false,
                      has_streams, request_details},
      console_command{"errors", "[--limit=N]", "actors that failed, and warnings and errors of the log",
                      false, has_events, errors},
      console_command{"events", "[-f] [--limit=N]", "the last lines of the log; -f goes on with new ones",
                      false, has_events, events},
      console_command{"nodes", "", "the nodes of the cluster", false, always, nodes},
      console_command{"members", "", "the same with what the failure detector thinks of them", false, always,
                      members},
      console_command{"routes", "", "where a request may go, and the load there", false, always, routes},
      console_command{"latency", "[NODE]", "round trip of the console, and between nodes", false, always,
                      latency},
      console_command{"config", "[--effective]",
                      "settings that differ from the default; all with --effective", false, has_settings,
                      config},
      console_command{"version", "", "version and build of the server", false, always, version},
  };
  return commands;
}

}  // namespace bitnet::actors
