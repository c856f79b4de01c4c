#include "actors/aggregator.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <stdexcept>
#include <thread>
#include <utility>

namespace bitnet::actors {

void aggregator_state::publish() {
  // A failed publication must not end the aggregator: the next one may succeed, and until then the snapshot's
  // age tells the truth.
  try {
    if (!options.state->publish(self->clock().now(), std::chrono::system_clock::now()))
      spdlog::error("health: a reader holds a snapshot for {} publications; the snapshot goes stale",
                    snapshot_store::max_retired);
  } catch (const std::exception& e) {
    spdlog::error("health: publishing the snapshot failed: {}", e.what());
  }
}

aggregator_actor::behavior_type aggregator(instrumented_pointer<aggregator_actor, aggregator_state> self,
                                           aggregator_options options) {
  auto& state = self->state;
  state.options = std::move(options);
  self->set_down_handler([self](caf::down_msg& down) {
    auto& watched = self->state.watched;
    const auto found = watched.find(down.source);
    if (found == watched.end() || down.reason == caf::exit_reason::user_shutdown) return;
    self->state.options.state->escalate(
        fmt::format("the {} ended ({}); restart the server", found->second, caf::to_string(down.reason)));
    watched.erase(found);
    self->state.publish();
  });
  state.publish();
  self->delayed_send(self, state.options.publish_period, tick_atom_v);
  return {
      [self](const component_report& report) {
        if (self->state.options.state->report(report, self->clock().now(), std::chrono::system_clock::now()))
          self->state.publish();
      },
      [self](health_note& note) { self->state.options.state->note(std::move(note)); },
      [self](const memory_sample& sample) { self->state.options.state->report(sample); },
      [self](const engine_sample& sample) { self->state.options.state->report(sample); },
      [self](tick_atom) {
        self->state.publish();
        self->delayed_send(self, self->state.options.publish_period, tick_atom_v);
      },
      [self](drain_atom) {
        self->state.options.state->drain();
        self->state.publish();
        return true;
      },
      [self](undrain_atom) {
        self->state.options.state->undrain();
        self->state.publish();
      },
      [self](escalate_atom, const std::string& why) {
        self->state.options.state->escalate(why);
        self->state.publish();
      },
      [self](watch_atom, const caf::actor& actor, const std::string& name) {
        self->state.watched.emplace(actor.address(), name);
        self->monitor(actor);
      },
      [](stop_atom, double seconds) {
        if (seconds <= 0) throw std::runtime_error("injected fault");
        std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
      },
  };
}

}  // namespace bitnet::actors
