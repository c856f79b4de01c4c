#include "actors/memory_supervisor.hpp"

#include <fmt/format.h>

#include <utility>

namespace bitnet::actors {

component_report memory_supervisor_state::judge(const std::optional<memory_sample>& sample) {
  component_report report;
  report.component = "memory";
  if (!sample || sample->limit_bytes == 0) {
    report.message = "memory cannot be measured: /proc/self/statm or /proc/meminfo is not readable";
    return report;
  }
  const auto percent =
      100 * static_cast<double>(sample->used_bytes) / static_cast<double>(sample->limit_bytes);
  const bool is_degraded = degraded.update(percent);
  const bool is_unhealthy = unhealthy.update(percent);
  report.status = is_unhealthy  ? health_status::unhealthy
                  : is_degraded ? health_status::degraded
                                : health_status::healthy;
  report.message = fmt::format("{:.1f} % of {} MiB in use ({})", percent, sample->limit_bytes >> 20,
                               sample->limited_by_cgroup ? "cgroup limit" : "host");
  return report;
}

void memory_supervisor_state::tick() {
  const auto began = std::chrono::steady_clock::now();
  const auto sample = options.measure();
  auto report = judge(sample);
  report.check_ns = static_cast<std::uint64_t>((std::chrono::steady_clock::now() - began).count());
  report.period_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(options.period).count());
  if (sample) self->send(options.aggregator, *sample);
  self->send(options.aggregator, std::move(report));
  self->delayed_send(self, options.period, tick_atom_v);
}

memory_supervisor_actor::behavior_type memory_supervisor(
    memory_supervisor_actor::stateful_pointer<memory_supervisor_state> self,
    memory_supervisor_options options) {
  auto& state = self->state;
  state.options = std::move(options);
  const auto& o = state.options;
  state.degraded = {o.degraded_percent, o.degraded_percent - o.clearance_percent};
  state.unhealthy = {o.unhealthy_percent, o.unhealthy_percent - o.clearance_percent};
  self->send(self, tick_atom_v);
  return {[self](tick_atom) { self->state.tick(); }};
}

}  // namespace bitnet::actors
