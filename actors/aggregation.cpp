#include "actors/aggregation.hpp"

#include "actors/health_render.hpp"
#include "actors/metrics_render.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace bitnet::actors {

namespace {

constexpr std::chrono::seconds own_delay_limit{1};
constexpr unsigned reports_to_recover = 2;

double seconds(std::chrono::nanoseconds d) {
  return std::chrono::duration<double>(d).count();
}

void append_reason(std::string& reasons, std::string_view who, std::string_view why) {
  if (!reasons.empty()) reasons += "; ";
  reasons += who;
  if (!who.empty()) reasons += ": ";
  reasons += why;
}

}  // namespace

aggregation::aggregation(aggregation_options options, std::shared_ptr<snapshot_store> store,
                         steady_time start)
    : options_(std::move(options)),
      store_(std::move(store)),
      start_(start),
      requests_(options_.request_window),
      tokens_(options_.throughput_window),
      cpu_(options_.cpu_window) {
  for (const auto& component : options_.components) {
    entry e;
    e.health.name = component.name;
    e.health.critical = component.critical;
    e.health.message = "starting: no report yet";
    e.health.code = "starting";
    e.arrival = start;
    e.period = options_.first_report;
    entries_.push_back(std::move(e));
  }
}

aggregation::entry& aggregation::find_or_add(const std::string& name) {
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const entry& e) { return e.health.name == name; });
  if (found != entries_.end()) return *found;
  entry e;
  e.health.name = name;
  e.health.critical = false;
  entries_.push_back(std::move(e));
  return entries_.back();
}

bool aggregation::report(const component_report& report, steady_time now, wall_time wall) {
  auto& e = find_or_add(report.component);
  const bool changed = !e.reported || e.missed || e.health.status != report.status ||
                       e.health.cannot_heal != report.cannot_heal || e.health.code != report.code;
  e.health.status = report.status;
  e.health.message = report.message;
  e.health.code = report.code;
  e.health.cannot_heal = report.cannot_heal;
  e.health.last_check = wall;
  e.health.response_time = std::chrono::nanoseconds(report.check_ns);
  e.arrival = now;
  e.period = std::chrono::nanoseconds(report.period_ns);
  e.reported = true;
  if (e.missed && ++e.reports_since_missed >= reports_to_recover) e.missed = false;
  return changed;
}

void aggregation::escalate(std::string why) {
  if (!escalation_) escalation_ = std::move(why);
}

void aggregation::forgive_own_delay(steady_time now) {
  const bool late = last_evaluation_ && now - *last_evaluation_ > own_delay_limit;
  if (late && !was_late_)
    for (auto& e : entries_) e.arrival += now - *last_evaluation_;
  was_late_ = late;
  last_evaluation_ = now;
}

component_health aggregation::judge(entry& e, steady_time now) const {
  const auto silence = now - e.arrival;
  if (silence > options_.missed_reports * e.period) {
    e.missed = true;
    e.reports_since_missed = 0;
  }
  auto health = e.health;
  if (e.missed) {
    health.status = health_status::unhealthy;
    health.code = "no_report";
    health.message = fmt::format("no report for {:.1f} s (one is due every {:.1f} s); the last one said: {}",
                                 seconds(silence), seconds(e.period), e.health.message);
  }
  return health;
}

void aggregation::roll_up(health_snapshot& snapshot) const {
  auto overall = health_status::healthy;
  for (const auto& c : snapshot.components) {
    if (c.status == health_status::healthy) continue;
    const bool fatal = c.critical && c.status == health_status::unhealthy;
    overall = std::max(overall, fatal ? health_status::unhealthy : health_status::degraded);
    snapshot.cannot_heal = snapshot.cannot_heal || c.cannot_heal;
    append_reason(snapshot.reason, c.name, c.message);
  }
  if (draining_) {
    overall = health_status::unhealthy;
    append_reason(snapshot.reason, "", "draining: the server is shutting down");
  }
  if (escalation_) {
    overall = health_status::unhealthy;
    snapshot.cannot_heal = true;
    append_reason(snapshot.reason, "", *escalation_);
  }
  snapshot.overall = overall;
  snapshot.draining = draining_;
}

void aggregation::measure(health_snapshot& snapshot, steady_time now) {
  if (options_.requests) snapshot.requests = options_.requests();
  if (options_.streams) snapshot.streams = options_.streams();
  requests_.add(now, snapshot.requests);
  tokens_.add(now, engine_.generated_tokens);
  cpu_.add(now, options_.cpu_time ? options_.cpu_time() : std::chrono::nanoseconds(0));

  auto& m = snapshot.metrics;
  m.active_requests = snapshot.requests.active;
  m.total_requests = snapshot.requests.total;
  const auto& base = requests_.oldest();
  const auto failed = static_cast<double>(snapshot.requests.failed - base.failed);
  const auto ended = failed + static_cast<double>(snapshot.requests.finished - base.finished);
  if (ended > 0) {
    m.error_rate_percent = 100 * failed / ended;
    m.avg_response_time_ms = 1000 * (snapshot.requests.seconds - base.seconds) / ended;
  }
  if (options_.gpu_memory_mb) m.gpu_memory_mb = options_.gpu_memory_mb();
  m.memory_usage_mb = static_cast<double>(memory_.resident_bytes) / (1024 * 1024);
  if (tokens_.seconds() > 0 && tokens_.newest() > tokens_.oldest())
    m.tokens_per_second = static_cast<double>(tokens_.newest() - tokens_.oldest()) / tokens_.seconds();
  if (cpu_.seconds() > 0)
    m.cpu_usage_percent = std::clamp(100 * seconds(cpu_.newest() - cpu_.oldest()) / cpu_.seconds() /
                                         static_cast<double>(options_.cpu_count),
                                     0.0, 100.0);
}

health_snapshot aggregation::evaluate(steady_time now, wall_time wall) {
  forgive_own_delay(now);
  health_snapshot snapshot;
  for (auto& e : entries_) snapshot.components.push_back(judge(e, now));
  roll_up(snapshot);
  snapshot.build = options_.build;
  snapshot.kind = options_.kind;
  snapshot.memory = memory_;
  snapshot.engine = engine_;
  snapshot.timestamp = wall;
  snapshot.uptime = now - start_;
  measure(snapshot, now);
  return snapshot;
}

void aggregation::remember(health_snapshot& snapshot) {
  auto fresh = history_.observe(snapshot);
  for (auto& n : std::exchange(notes_, {})) {
    health_event e;
    e.component = std::move(n.component);
    e.code = std::move(n.code);
    e.message = std::move(n.message);
    fresh.push_back(history_.note(std::move(e), snapshot));
  }
  snapshot.transitions = history_.transitions();
  snapshot.notes = history_.noted();
  if (options_.on_event)
    for (const auto& e : fresh) options_.on_event(e);
}

bool aggregation::publish(steady_time now, wall_time wall) {
  auto facts = std::make_shared<health_snapshot>(evaluate(now, wall));
  remember(*facts);
  const auto& snapshot = *facts;
  std::vector<prometheus::MetricFamily> more;
  for (const auto& collectable : options_.metrics) {
    auto families = collectable->Collect();
    more.insert(more.end(), std::make_move_iterator(families.begin()),
                std::make_move_iterator(families.end()));
  }
  auto rendered = render(snapshot, {.degraded_ok = options_.degraded_ok},
                         render_metrics_text(snapshot, std::move(more)), history_);
  rendered->facts = std::move(facts);
  rendered->stamp = now;
  rendered->grace_end = start_ + options_.startup_grace;
  return store_->publish(std::move(rendered));
}

}  // namespace bitnet::actors
