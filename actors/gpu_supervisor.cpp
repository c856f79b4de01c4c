#include "actors/gpu_supervisor.hpp"

#include <utility>

namespace bitnet::actors {

void gpu_supervisor_state::tick() {
  const auto seen = options.gpu.monitor->observe();
  const auto lost = options.gpu.lost ? options.gpu.lost() : std::vector<std::string>();
  auto report = watch->judge(seen, lost, self->clock().now());
  report.check_ns = static_cast<std::uint64_t>(seen.took.count());
  report.period_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(options.period).count());
  self->send(options.aggregator, std::move(report));
  self->delayed_send(self, options.period, tick_atom_v);
}

gpu_supervisor_actor::behavior_type gpu_supervisor(
    gpu_supervisor_actor::stateful_pointer<gpu_supervisor_state> self, gpu_supervisor_options options) {
  auto& state = self->state;
  state.options = std::move(options);
  state.watch.emplace(state.options.gpu.use, state.options.gpu.watch);
  self->send(self, tick_atom_v);
  return {[self](tick_atom) { self->state.tick(); }};
}

}  // namespace bitnet::actors
