#include "actors/supervision.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace bitnet::actors {

void supervisor_state::on_child_down(const caf::down_msg& down) {
  const auto found = std::find_if(children.begin(), children.end(), [&](const child& c) {
    return c.handle && c.handle.address() == down.source;
  });
  if (found == children.end()) return;  // an older incarnation, or a second DOWN of the same
  found->handle = nullptr;
  const auto index = static_cast<std::size_t>(found - children.begin());
  if (current == phase::stopping && index >= stop_from && index < stop_to) {
    stop_next();
    return;
  }
  // Unexpected.
  last_failure = fmt::format("{} ended ({})", options.children[index].name, caf::to_string(down.reason));
  spdlog::error("{}: {}", options.name, last_failure);
  if (current != phase::running) {
    // A child outside of those that are being replaced: replace it with them.
    if (options.strategy != restart_strategy::one_for_one) stop(std::min(index, stop_from), children.size());
    return;
  }
  switch (options.strategy) {
    case restart_strategy::one_for_one:
      stop(index, index + 1);
      return;
    case restart_strategy::one_for_all:
      stop(0, children.size());
      return;
    case restart_strategy::rest_for_one:
      stop(index, children.size());
      return;
  }
}

void supervisor_state::stop(std::size_t from, std::size_t to) {
  stop_from = from;
  stop_to = to;
  current = phase::stopping;
  stop_next();
}

void supervisor_state::stop_next() {
  for (auto i = stop_to; i-- > stop_from;) {
    if (!children[i].handle) continue;
    self->send_exit(children[i].handle, caf::exit_reason::user_shutdown);
    self->delayed_send(self, options.stop_timeout, stop_atom_v, ++generation);
    return;
  }
  stopped();
}

void supervisor_state::on_stop_timeout() {
  for (auto i = stop_to; i-- > stop_from;) {
    if (!children[i].handle) continue;
    spdlog::error("{}: {} did not end in time and is killed", options.name, options.children[i].name);
    self->send_exit(children[i].handle, caf::exit_reason::kill);
    return;
  }
}

void supervisor_state::stopped() {
  if (quitting) {
    self->quit(*quitting);
    return;
  }
  if (gave_up) return;
  const auto delay = policy.on_failure(self->clock().now());
  if (delay) {
    current = phase::waiting;
    self->delayed_send(self, *delay, restart_atom_v, ++generation);
    return;
  }
  gave_up = true;
  const auto why = fmt::format("{} restarts within {} s did not help: {}; restart the server",
                               options.limits.max_restarts, options.limits.period.count(), last_failure);
  spdlog::critical("{}: {}", options.name, why);
  if (options.escalate) options.escalate(why);
  stop(0, children.size());
}

void supervisor_state::restart() {
  current = phase::running;
  for (std::size_t i = 0; i < children.size(); ++i) {
    auto& c = children[i];
    if (c.handle) continue;
    const supervised_spawn mark(++c.incarnation);
    c.handle = options.children[i].start(self, c.incarnation);
    self->monitor(c.handle);
    if (c.incarnation > 1 && options.restarted) options.restarted(options.children[i].name, c.incarnation);
  }
}

void supervisor_state::on_exit_request(caf::error reason) {
  if (quitting) return;
  quitting = std::move(reason);
  stop(0, children.size());
}

caf::behavior supervisor(instrumented_pointer<caf::actor, supervisor_state> self,
                         supervisor_options options) {
  auto& state = self->state;
  state.policy = restart_policy(options.limits);
  state.children.resize(options.children.size());
  state.options = std::move(options);
  self->set_down_handler([self](caf::down_msg& down) { self->state.on_child_down(down); });
  self->set_exit_handler(
      [self](caf::exit_msg& exit) { self->state.on_exit_request(std::move(exit.reason)); });
  state.restart();
  return {
      [self](restart_atom, std::uint64_t generation) {
        if (generation == self->state.generation && self->state.current == supervisor_state::phase::waiting)
          self->state.restart();
      },
      [self](stop_atom, std::uint64_t generation) {
        if (generation == self->state.generation && self->state.current == supervisor_state::phase::stopping)
          self->state.on_stop_timeout();
      },
  };
}

}  // namespace bitnet::actors
