#include "actors/memory_supervisor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace bitnet::actors {

component_report memory_supervisor_state::judge(const std::optional<memory_sample>& sample) {
  component_report report;
  report.component = "memory";
  if (!sample || sample->limit_bytes == 0) {
    report.code = "memory_unmeasured";
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
  report.code = is_unhealthy ? "memory_limit" : is_degraded ? "memory_high" : health_ok;
  report.message = fmt::format("{:.1f} % of {} MiB in use ({})", percent, sample->limit_bytes >> 20,
                               sample->limited_by_cgroup ? "cgroup limit" : "host");
  judge_trend(*sample, report);
  return report;
}

void memory_supervisor_state::judge_trend(const memory_sample& sample, component_report& report) {
  const auto stalled = options.measure_pressure();
  const bool pressed = pressure.update(stalled);
  const auto headroom = sample.limit_bytes - std::min(sample.limit_bytes, sample.used_bytes);
  const auto left = growth.update(self->clock().now(), sample.resident_bytes, headroom);
  const auto degrade = [&](const char* code, const std::string& why) {
    report.message += "; " + why;
    if (report.status != health_status::healthy) return;
    report.status = health_status::degraded;
    report.code = code;
  };
  if (pressed)
    degrade("memory_pressure",
            fmt::format("every task waited for memory in {:.0f} % of the last 10 s", stalled));
  if (left)
    degrade("memory_growth", fmt::format("this process grows steadily and reaches the limit in about {} min",
                                         std::chrono::duration_cast<std::chrono::minutes>(*left).count()));
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
    instrumented_pointer<memory_supervisor_actor, memory_supervisor_state> self,
    memory_supervisor_options options) {
  auto& state = self->state;
  state.options = std::move(options);
  const auto& o = state.options;
  state.degraded = {o.degraded_percent, o.degraded_percent - o.clearance_percent};
  state.pressure = {o.pressure_percent, o.pressure_percent / 2};
  state.growth = memory_growth(o.growth);
  state.unhealthy = {o.unhealthy_percent, o.unhealthy_percent - o.clearance_percent};
  self->send(self, tick_atom_v);
  return {[self](tick_atom) { self->state.tick(); }};
}

}  // namespace bitnet::actors
