#include "actors/engine_supervisor.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace bitnet::actors {

namespace {

constexpr auto relaxed = std::memory_order_relaxed;

engine_verdict say_unhealthy(std::string_view code, std::string message, bool cannot_heal = false) {
  engine_verdict v;
  v.code = code;
  v.message = std::move(message);
  v.cannot_heal = cannot_heal;
  return v;
}

}  // namespace

supervised_engine* engine_supervisor_state::find(std::uint64_t slot) {
  const auto found = engines.find(slot);
  return found == engines.end() ? nullptr : found->second.get();
}

supervised_engine* engine_supervisor_state::serving() const {
  for (const auto& [slot, engine] : engines)
    if (engine->role() == model_role::serving) return engine.get();
  return nullptr;
}

void engine_supervisor_state::use_model(loaded_model loaded) {
  auto& engine = engines[loaded.slot];
  if (!engine) engine = std::make_unique<supervised_engine>(self, options, loaded.slot, loaded.role);
  engine->use_model(std::move(loaded.model), loaded.load);
}

void engine_supervisor_state::fence_off(std::uint64_t slot, std::string why) {
  if (auto* engine = find(slot)) engine->fence_off(std::move(why));
}

void engine_supervisor_state::retire(std::uint64_t slot) {
  if (auto* engine = find(slot)) engine->set_role(model_role::retiring);
}

void engine_supervisor_state::promote(supervised_engine& candidate) {
  if (auto* old = serving()) old->set_role(model_role::retiring);
  candidate.set_role(model_role::serving);
  self->send(options.model, ready_atom_v, candidate.slot());
}

void engine_supervisor_state::release(std::uint64_t slot) {
  auto* engine = find(slot);
  if (engine != nullptr && engine->has_worker()) {
    engine->end();
    return;  // its DOWN goes on
  }
  drop(slot);
}

/// Of an engine without worker: nothing of it is left.
void engine_supervisor_state::drop(std::uint64_t slot) {
  std::optional<std::string> failure;
  if (const auto* engine = find(slot)) failure = engine->failure();
  engines.erase(slot);
  options.ledger->slots.erase(slot);
  self->send(options.router, release_atom_v, slot);
  if (failure)
    self->send(options.model, reject_atom_v, slot, std::move(*failure));
  else
    self->send(options.model, release_atom_v, slot);
}

void engine_supervisor_state::restart(std::uint64_t slot, std::uint64_t generation) {
  if (auto* engine = find(slot)) engine->restart(generation);
}

void engine_supervisor_state::on_down(const caf::down_msg& down) {
  if (down.source == options.router.address()) {
    router_ended = true;
    tick();
    return;
  }
  // Each monitor gives a DOWN of its own: most are of workers that are gone.
  const auto found = std::find_if(engines.begin(), engines.end(),
                                  [&](const auto& one) { return one.second->owns(down.source); });
  if (found == engines.end()) return;
  auto& engine = *found->second;
  engine.on_worker_down(down);
  if (quitting) {
    on_exit_request(*quitting);
    return;
  }
  if (engine.ended()) drop(engine.slot());
  tick();
}

void engine_supervisor_state::on_exit_request(caf::error reason) {
  // Ends after its workers, so that its successor's do not run beside this one's.
  quitting = std::move(reason);
  bool any = false;
  for (const auto& [slot, engine] : engines) {
    if (!engine->has_worker()) continue;
    any = true;
    engine->end();
  }
  if (!any) self->quit(*quitting);
}

caf::result<std::string> engine_supervisor_state::cause_fault(const fault_request& fault) {
  const auto* engine = serving();
  if (engine == nullptr || !engine->has_worker())
    return make_error(error_code::no_worker, "no worker runs now");
  return self->delegate(engine->worker(), fault_atom_v, fault);
}

/// Those that do not serve: nothing of them shows in the component, whose matter is what requests get.
void engine_supervisor_state::look_at_others() {
  std::vector<supervised_engine*> others;
  for (const auto& [slot, engine] : engines)
    if (engine->role() != model_role::serving) others.push_back(engine.get());
  for (auto* engine : others) {
    engine->judge();
    if (engine->role() != model_role::candidate) continue;
    if (engine->failure())
      release(engine->slot());
    else if (engine->announced())
      promote(*engine);
  }
}

engine_verdict engine_supervisor_state::judge() {
  if (router_ended) return say_unhealthy("gave_up", "the router ended; restart the server", true);
  look_at_others();
  auto* engine = serving();
  if (engine == nullptr) return say_unhealthy("waiting_for_model", "waiting for the model");
  return engine->judge();
}

engine_sample engine_supervisor_state::sample() const {
  auto s = options.ledger->totals;
  s.queue_capacity = options.generation.max_queued;
  for (const auto& [slot, engine] : engines) {
    const auto* board = engine->board();
    if (board == nullptr) continue;
    add_work(s, *board);
    s.running += board->running.load(relaxed);
    s.queued += board->queued.load(relaxed);
    s.kv_blocks_used += board->kv_blocks_used.load(relaxed);
    s.kv_blocks_total += board->kv_blocks_total.load(relaxed);
  }
  const auto* current = serving();
  if (current == nullptr) return s;
  s.workers = current->announced() ? 1 : 0;
  if (current->board() != nullptr) s.step_seconds_p99 = step_seconds_p99(*current->board());
  if (!options.backend.processes || current->model() == nullptr) return s;
  for (const auto& one : options.backend.processes()) {
    if (one.model != current->model()) continue;
    s.loader_pid = static_cast<std::uint32_t>(one.loader);
    s.engine_pid = static_cast<std::uint32_t>(one.engine);
  }
  return s;
}

void engine_supervisor_state::report(const engine_verdict& verdict, std::chrono::nanoseconds took) {
  component_report r;
  r.component = "inference_engine";
  r.status = verdict.status;
  r.message = verdict.message;
  r.code = verdict.code;
  r.cannot_heal = verdict.cannot_heal;
  r.check_ns = static_cast<std::uint64_t>(took.count());
  r.period_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(options.period).count());
  self->send(options.aggregator, sample());
  self->send(options.aggregator, std::move(r));
}

void engine_supervisor_state::tick() {
  const auto began = std::chrono::steady_clock::now();
  const auto verdict = judge();
  report(verdict, std::chrono::steady_clock::now() - began);
}

engine_supervisor_actor::behavior_type engine_supervisor(
    instrumented_pointer<engine_supervisor_actor, engine_supervisor_state> self,
    engine_supervisor_options options) {
  self->state.options = std::move(options);
  self->set_down_handler([self](caf::down_msg& down) { self->state.on_down(down); });
  self->set_exit_handler(
      [self](caf::exit_msg& exit) { self->state.on_exit_request(std::move(exit.reason)); });
  self->monitor(self->state.options.router);
  self->send(self, tick_atom_v);
  return {
      [self](loaded_model& loaded) { self->state.use_model(std::move(loaded)); },
      [self](fence_atom, std::uint64_t slot, std::string& why) {
        self->state.fence_off(slot, std::move(why));
        self->state.tick();
      },
      [self](retire_atom, std::uint64_t slot) {
        self->state.retire(slot);
        self->state.tick();
      },
      [self](release_atom, std::uint64_t slot) { self->state.release(slot); },
      [self](tick_atom) {
        self->state.tick();
        self->delayed_send(self, self->state.options.period, tick_atom_v);
      },
      [self](status_atom) { self->state.tick(); },
      [self](fault_atom, const fault_request& fault) { return self->state.cause_fault(fault); },
      [self](restart_atom, std::uint64_t slot, std::uint64_t generation) {
        self->state.restart(slot, generation);
      },
  };
}

}  // namespace bitnet::actors
