#include "actors/metrics_render.hpp"

#include "actors/health_render.hpp"

#include <prometheus/text_serializer.h>

#include <array>
#include <iterator>
#include <sstream>
#include <utility>

namespace bitnet::actors {

namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

ClientMetric sample(MetricType type, double value, std::vector<ClientMetric::Label> labels = {}) {
  ClientMetric metric;
  metric.label = std::move(labels);
  if (type == MetricType::Counter)
    metric.counter.value = value;
  else
    metric.gauge.value = value;
  return metric;
}

class family_list {
 public:
  void gauge(const char* name, const char* help, double value) { add(name, help, MetricType::Gauge, value); }
  /// Integers lose precision above 2^53 only.
  void counter(const char* name, const char* help, std::uint64_t value) {
    add(name, help, MetricType::Counter, static_cast<double>(value));
  }
  void family(MetricFamily f) { families_.push_back(std::move(f)); }
  std::vector<MetricFamily> take() { return std::move(families_); }

 private:
  void add(const char* name, const char* help, MetricType type, double value) {
    families_.push_back({std::string("bitnet_") + name, help, type, {sample(type, value)}});
  }
  std::vector<MetricFamily> families_;
};

MetricFamily component_status(const health_snapshot& snapshot) {
  MetricFamily f{"bitnet_component_status",
                 "1 for the status that a component has, 0 for the others.",
                 MetricType::Gauge,
                 {}};
  for (const auto& component : snapshot.components)
    for (auto status : {health_status::healthy, health_status::degraded, health_status::unhealthy})
      f.metric.push_back(sample(MetricType::Gauge, component.status == status ? 1 : 0,
                                {{"component", component.name}, {"status", std::string(to_string(status))}}));
  return f;
}

MetricFamily transitions(const health_snapshot& snapshot) {
  MetricFamily f{"bitnet_health_transitions_total",
                 "Times that a component, or the server, took another status.",
                 MetricType::Counter,
                 {}};
  for (const auto& [what, count] : snapshot.transitions)
    f.metric.push_back(sample(MetricType::Counter, static_cast<double>(count),
                              {{"component", what.first}, {"to", std::string(to_string(what.second))}}));
  return f;
}

MetricFamily notes(const health_snapshot& snapshot) {
  MetricFamily f{"bitnet_health_events_total",
                 "Events of the history that are no transitions, for example restarts.",
                 MetricType::Counter,
                 {}};
  for (const auto& [code, count] : snapshot.notes)
    f.metric.push_back(sample(MetricType::Counter, static_cast<double>(count), {{"code", code}}));
  return f;
}

MetricFamily build(const build_info& b) {
  return {"bitnet_build_info",
          "Always 1; the labels describe the build.",
          MetricType::Gauge,
          {sample(MetricType::Gauge, 1,
                  {{"version", b.version},
                   {"git_sha", b.git_sha},
                   {"git_branch", b.git_branch},
                   {"compiler", b.compiler_version},
                   {"target", b.target},
                   {"profile", b.profile}})}};
}

/// A figure of each device that engines compute on.
template <class F>
MetricFamily by_device(const engine_sample& e, const char* name, const char* help, F figure) {
  MetricFamily f{name, help, MetricType::Gauge, {}};
  for (const auto& device : e.devices)
    f.metric.push_back(
        sample(MetricType::Gauge, static_cast<double>(figure(device)), {{"device", device.device}}));
  return f;
}

double ratio(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

void add_health(family_list& list, const health_snapshot& s) {
  list.family(build(s.build));
  list.gauge("uptime_seconds", "Time since the start.", std::chrono::duration<double>(s.uptime).count());
  list.gauge("ready", "1 where /health/ready answers 200.", ready_status_code(s) == 200 ? 1 : 0);
  list.gauge("draining", "1 once the server has begun to shut down.", s.draining ? 1 : 0);
  list.family(component_status(s));
  if (!s.transitions.empty()) list.family(transitions(s));
  if (!s.notes.empty()) list.family(notes(s));
}

void add_requests(family_list& list, const health_snapshot& s) {
  list.counter("requests_total", "Accepted inference requests.", s.requests.total);
  list.counter("requests_failed_total", "Requests that ended by a fault of the server.", s.requests.failed);
  list.gauge("requests_active", "Inference requests in flight.", static_cast<double>(s.requests.active));
  list.gauge("error_ratio", "Failed part of the requests that ended in the last minute.",
             s.metrics.error_rate_percent / 100);
  list.gauge("response_time_seconds_avg", "Mean duration of the requests that ended in the last minute.",
             s.metrics.avg_response_time_ms / 1000);
}

void add_streams(family_list& list, const stream_statistics& s) {
  list.gauge("streams_active", "Sequences submitted and not yet ended.", static_cast<double>(s.active));
  list.gauge("streams_waiting", "Sequences that wait for a worker.", static_cast<double>(s.waiting));
  list.counter("streams_resumed_total", "Sequences that went on after the loss of their worker.", s.resumed);
  list.counter("streams_abandoned_total", "Sequences ended because no worker came in time.", s.abandoned);
  list.counter("requests_quarantined_total", "Requests given up as the cause of workers' deaths.",
               s.quarantined);
}

void add_engine(family_list& list, const engine_sample& e, const health_metrics& m) {
  list.gauge("num_requests_running", "Sequences decoded together now.", static_cast<double>(e.running));
  list.gauge("num_requests_waiting", "Sequences that wait for a place.", static_cast<double>(e.queued));
  list.gauge("queue_capacity", "Sequences that may wait.", static_cast<double>(e.queue_capacity));
  list.gauge("kv_cache_usage_perc", "Used part of the KV cache, 0 to 1.",
             ratio(e.kv_blocks_used, e.kv_blocks_total));
  list.counter("prompt_tokens_total", "Prompt tokens prefilled.", e.prompt_tokens);
  list.counter("prefix_cache_hit_tokens_total", "Prompt tokens that the prefix cache had.", e.cached_tokens);
  list.counter("preemptions_total", "Sequences put back in the queue because the KV cache was full.",
               e.preemptions);
  list.counter("generation_tokens_total", "Tokens generated.", e.generated_tokens);
  list.gauge("tokens_per_second", "Tokens generated a second, over the last seconds.", m.tokens_per_second);
  list.counter("engine_steps_total", "Forward passes.", e.steps);
  list.gauge("engine_step_seconds_p99", "99th percentile of the last forward passes.", e.step_seconds_p99);
  list.counter("engine_failed_sequences_total", "Sequences whose computation failed.", e.failed_sequences);
  list.counter("canary_runs_total", "Forward passes with a known answer.", e.canary_runs);
  list.gauge("workers", "Workers that take requests.", static_cast<double>(e.workers));
  list.counter("worker_restarts_total", "Workers replaced.", e.worker_restarts);
  if (e.devices.empty()) return;
  list.family(by_device(e, "bitnet_engine_device_serves", "1 while the engine on this device takes requests.",
                        [](const auto& d) { return d.serves ? 1 : 0; }));
  list.family(by_device(e, "bitnet_engine_device_sequences_running", "Sequences decoded on this device now.",
                        [](const auto& d) { return d.running; }));
}

void add_machine(family_list& list, const health_snapshot& s) {
  list.gauge("process_resident_memory_bytes", "Resident memory of the server.",
             static_cast<double>(s.memory.resident_bytes));
  list.gauge("memory_used_bytes", "Memory in use within the limit, without reclaimable page cache.",
             static_cast<double>(s.memory.used_bytes));
  list.gauge("memory_limit_bytes", "The cgroup's limit, or the host's memory.",
             static_cast<double>(s.memory.limit_bytes));
  list.gauge("cpu_usage_ratio", "Used part of the CPUs that the server may use, 0 to 1.",
             s.metrics.cpu_usage_percent / 100);
}

}  // namespace

std::string render_metrics_text(const health_snapshot& snapshot, std::vector<prometheus::MetricFamily> more) {
  family_list list;
  add_health(list, snapshot);
  add_requests(list, snapshot);
  add_streams(list, snapshot.streams);
  add_engine(list, snapshot.engine, snapshot.metrics);
  add_machine(list, snapshot);
  auto families = list.take();
  families.insert(families.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  std::ostringstream out;
  prometheus::TextSerializer{}.Serialize(out, families);
  return std::move(out).str();
}

}  // namespace bitnet::actors
