#include "actors/aggregator_guard.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace bitnet::actors {

aggregator_guard_state::~aggregator_guard_state() {
  if (child) caf::anon_send_exit(child, caf::exit_reason::user_shutdown);
}

void aggregator_guard_state::start_child() {
  const supervised_spawn mark(++incarnation);
  child = self->spawn(actors::aggregator, options.aggregator);
  self->monitor(child);
  for (const auto& [actor, title] : watched) self->send(child, watch_atom_v, actor, title);
}

void aggregator_guard_state::on_down(const caf::down_msg& down) {
  if (!child || down.source != child.address()) return;
  child = nullptr;
  const auto why = caf::to_string(down.reason);
  const auto delay = policy.on_failure(self->clock().now());
  if (!delay) {
    spdlog::critical("health: the aggregator ended again ({}) and is not restarted any more", why);
    return;
  }
  spdlog::error("health: the aggregator ended ({}); restarting it", why);
  // Nobody else has it while there is no child.
  options.aggregator.state->note(
      {"server", "aggregator_restarted", fmt::format("the aggregator ended ({}) and was restarted", why)});
  self->delayed_send(self, *delay, tick_atom_v);
}

aggregator_actor::behavior_type aggregator_guard(
    instrumented_pointer<aggregator_actor, aggregator_guard_state> self, aggregator_guard_options options) {
  auto& state = self->state;
  state.policy = restart_policy(options.restarts);
  state.options = std::move(options);
  self->set_down_handler([self](caf::down_msg& down) { self->state.on_down(down); });
  state.start_child();
  // Without an aggregator what is sent to it is lost; the next report comes soon.
  return {
      [self](const component_report& report) {
        if (self->state.child) self->send(self->state.child, report);
      },
      [self](const health_note& note) {
        if (self->state.child) self->send(self->state.child, note);
      },
      [self](const memory_sample& sample) {
        if (self->state.child) self->send(self->state.child, sample);
      },
      [self](const engine_sample& sample) {
        if (self->state.child) self->send(self->state.child, sample);
      },
      [self](tick_atom) {
        if (!self->state.child) self->state.start_child();
      },
      [self](drain_atom) -> caf::result<bool> {
        if (self->state.child) return self->delegate(self->state.child, drain_atom_v);
        self->state.options.aggregator.state
            ->drain();  // until somebody publishes it, every probe answers 503
        return true;
      },
      [self](undrain_atom) {
        if (self->state.child)
          self->send(self->state.child, undrain_atom_v);
        else
          self->state.options.aggregator.state->undrain();
      },
      [self](escalate_atom, const std::string& why) {
        if (self->state.child)
          self->send(self->state.child, escalate_atom_v, why);
        else
          self->state.options.aggregator.state->escalate(why);
      },
      [self](watch_atom, const caf::actor& actor, const std::string& name) {
        self->state.watched.emplace_back(actor, name);
        if (self->state.child) self->send(self->state.child, watch_atom_v, actor, name);
      },
      [self](stop_atom, double seconds) {
        if (self->state.child) self->send(self->state.child, stop_atom_v, seconds);
      },
  };
}

}  // namespace bitnet::actors
