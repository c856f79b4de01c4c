#include "actors/process_supervisor.hpp"

#include <utility>

namespace bitnet::actors {

void process_supervisor_state::tick() {
  const auto began = std::chrono::steady_clock::now();
  auto verdict = watch->judge(options.measure());
  component_report report;
  report.component = "process";
  report.status = verdict.status;
  report.code = std::move(verdict.code);
  report.message = std::move(verdict.message);
  report.check_ns = static_cast<std::uint64_t>((std::chrono::steady_clock::now() - began).count());
  report.period_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(options.period).count());
  for (auto& note : verdict.notes) self->send(options.aggregator, std::move(note));
  self->send(options.aggregator, std::move(report));
  self->delayed_send(self, options.period, tick_atom_v);
}

process_supervisor_actor::behavior_type process_supervisor(
    instrumented_pointer<process_supervisor_actor, process_supervisor_state> self,
    process_supervisor_options options) {
  self->state.watch.emplace(options.watch, options.period);
  self->state.options = std::move(options);
  self->send(self, tick_atom_v);
  return {[self](tick_atom) { self->state.tick(); }};
}

}  // namespace bitnet::actors
