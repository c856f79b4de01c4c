#pragma once

#include "actors/counter_window.hpp"
#include "actors/health.hpp"
#include "actors/health_history.hpp"
#include "actors/snapshot_store.hpp"

#include <prometheus/collectable.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace bitnet::actors {

struct aggregation_options {
  struct component {
    std::string name;
    bool critical = true;
  };
  std::vector<component> components{{"model"}, {"memory"}, {"inference_engine"}};
  build_info build;
  engine_kind kind;
  bool degraded_ok = false;
  std::chrono::milliseconds startup_grace{5000};
  unsigned missed_reports = 3;                         ///< this many periods without a report: unhealthy
  std::chrono::milliseconds first_report{2000};        ///< period assumed before the first report
  std::chrono::seconds request_window{60};             ///< for error rate and response time
  std::chrono::seconds throughput_window{10};          ///< for tokens per second
  std::chrono::seconds cpu_window{5};                  ///< for CPU usage
  std::size_t cpu_count = 1;                           ///< CPUs that make 100 %
  std::function<std::chrono::nanoseconds()> cpu_time;  ///< used by this process so far; empty: 0 %
  std::function<request_statistics()> requests;        ///< see service_options
  std::function<double()> gpu_memory_mb;               ///< MiB in use on the GPU; empty: builds without CUDA
  std::function<stream_statistics()> streams;          ///< never blocks; empty: all zero
  std::vector<std::shared_ptr<prometheus::Collectable>> metrics;
  std::function<void(const health_event&)> on_event;  ///< called once for each, in publish(); empty: nobody
};

/// What the aggregator actor knows and how it judges it, without an actor around. One thread.
///
/// - A critical component unhealthy: unhealthy. Any component degraded, or another one unhealthy: degraded.
/// - A component from which nothing came for `missed_reports` of its periods is unhealthy, and healthy again
///   only after two reports in time.
/// - Draining: unhealthy (no traffic), but live.
/// - Where the caller itself was late by more than a second (the process was stopped, the machine slept), all
///   components get the lost time once: their reports are late for the same reason.
class aggregation {
 public:
  aggregation(aggregation_options options, std::shared_ptr<snapshot_store> store, steady_time start);

  /// True where the status changed, so that it is worth publishing at once. Unknown components are added as
  /// non-critical.
  bool report(const component_report& report, steady_time now, wall_time wall);
  void report(const memory_sample& sample) { memory_ = sample; }
  void report(const engine_sample& sample) { engine_ = sample; }

  /// For the history; in the next publication.
  void note(health_note n) { notes_.push_back(std::move(n)); }

  void drain() noexcept { draining_ = true; }
  void undrain() noexcept { draining_ = false; }
  /// Liveness fails from now on.
  void escalate(std::string why);

  /// Judges all reports as of `now`.
  health_snapshot evaluate(steady_time now, wall_time wall);

  /// Evaluates, renders, publishes. False where the store refused. Costs 100 to 200 us.
  bool publish(steady_time now, wall_time wall);

 private:
  struct entry {
    component_health health;
    steady_time arrival{};
    std::chrono::nanoseconds period{};
    bool reported = false;
    bool missed = false;
    unsigned reports_since_missed = 0;
  };

  entry& find_or_add(const std::string& name);
  void forgive_own_delay(steady_time now);
  component_health judge(entry& e, steady_time now) const;
  void roll_up(health_snapshot& snapshot) const;
  void measure(health_snapshot& snapshot, steady_time now);
  void remember(health_snapshot& snapshot);

  aggregation_options options_;
  std::shared_ptr<snapshot_store> store_;
  steady_time start_;
  std::vector<entry> entries_;
  memory_sample memory_;
  engine_sample engine_;
  bool draining_ = false;
  std::optional<std::string> escalation_;
  std::optional<steady_time> last_evaluation_;
  bool was_late_ = false;
  counter_window<request_statistics> requests_;
  counter_window<std::uint64_t> tokens_;
  counter_window<std::chrono::nanoseconds> cpu_;
  health_history history_;
  std::vector<health_note> notes_;  ///< not yet in the history
};

}  // namespace bitnet::actors
