#include "actors/engine_supervisor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace bitnet::actors {

namespace {

constexpr auto relaxed = std::memory_order_relaxed;

/// What is said of a model's engines together: one that does not serve degrades, as long as another does.
engine_verdict combine(const std::vector<engine_verdict>& verdicts, const model_engines& engines) {
  if (verdicts.size() == 1) return verdicts.front();
  std::size_t sound = 0;
  std::size_t serving = 0;
  const engine_verdict* worst = &verdicts.front();
  for (const auto& v : verdicts) {
    sound += v.status == health_status::healthy ? 1 : 0;
    serving += v.status != health_status::unhealthy ? 1 : 0;
    if (v.status > worst->status) worst = &v;
  }
  const bool all_sound = sound == verdicts.size();
  engine_verdict all;
  all.code = worst->code;
  all.message = fmt::format("{} of {} engines serve", serving, verdicts.size());
  for (std::size_t i = 0; i < verdicts.size(); ++i)
    if (all_sound || verdicts[i].status != health_status::healthy)
      all.message += fmt::format("; {}: {}", engines[i]->device_name(), verdicts[i].message);
  if (serving != 0) {
    all.status = all_sound ? health_status::healthy : health_status::degraded;
    return all;
  }
  all.cannot_heal =
      std::all_of(verdicts.begin(), verdicts.end(), [](const auto& v) { return v.cannot_heal; });
  return all;
}

bool any_worker(const model_engines& engines) {
  return std::any_of(engines.begin(), engines.end(), [](const auto& one) { return one->has_worker(); });
}

}  // namespace

model_engines* engine_supervisor_state::find(std::uint64_t slot) {
  const auto found = engines.find(slot);
  return found == engines.end() ? nullptr : &found->second;
}

const model_engines* engine_supervisor_state::serving() const {
  for (const auto& [slot, group] : engines)
    if (group.front()->role() == model_role::serving) return &group;
  return nullptr;
}

void engine_supervisor_state::use_model(loaded_model loaded) {
  auto& group = engines[loaded.slot];
  const auto count = std::max<std::size_t>(options.backend.devices.size(), 1);
  while (group.size() < count)
    group.push_back(
        std::make_unique<supervised_engine>(self, options, loaded.slot, loaded.role, group.size(), group));
  for (const auto& engine : group) engine->use_model(loaded.model, loaded.load);
}

void engine_supervisor_state::fence_off(std::uint64_t slot, std::string why) {
  if (auto* group = find(slot))
    for (const auto& engine : *group) engine->fence_off(why);
}

void engine_supervisor_state::set_role(std::uint64_t slot, model_role role) {
  if (auto* group = find(slot))
    for (const auto& engine : *group) engine->set_role(role);
}

void engine_supervisor_state::retire(std::uint64_t slot) {
  set_role(slot, model_role::retiring);
}

void engine_supervisor_state::promote(std::uint64_t slot) {
  if (const auto* old = serving()) set_role(old->front()->slot(), model_role::retiring);
  set_role(slot, model_role::serving);
  self->send(options.model, ready_atom_v, slot);
}

void engine_supervisor_state::release(std::uint64_t slot) {
  if (auto* group = find(slot)) {
    for (const auto& engine : *group) engine->end();
    if (any_worker(*group)) return;  // their DOWNs go on
  }
  drop(slot);
}

/// Of engines without worker: nothing of them is left.
void engine_supervisor_state::drop(std::uint64_t slot) {
  std::optional<std::string> failure;
  if (const auto* group = find(slot))
    for (const auto& engine : *group)
      if (!failure) failure = engine->failure();
  engines.erase(slot);
  options.ledger->slots.erase(slot);
  self->send(options.router, release_atom_v, slot);
  if (failure)
    self->send(options.model, reject_atom_v, slot, std::move(*failure));
  else
    self->send(options.model, release_atom_v, slot);
}

void engine_supervisor_state::restart(std::uint64_t worker, std::uint64_t generation) {
  for (const auto& [slot, group] : engines)
    for (const auto& engine : group)
      if (engine->worker_id() == worker) engine->restart(generation);
}

void engine_supervisor_state::on_down(const caf::down_msg& down) {
  if (down.source == options.router.address()) {
    router_ended = true;
    tick();
    return;
  }
  // Each monitor gives a DOWN of its own: most are of workers that are gone.
  supervised_engine* owner = nullptr;
  for (const auto& [slot, group] : engines)
    for (const auto& engine : group)
      if (engine->owns(down.source)) owner = engine.get();
  if (owner == nullptr) return;
  owner->on_worker_down(down);
  if (quitting) {
    on_exit_request(*quitting);
    return;
  }
  const auto slot = owner->slot();
  const auto& group = engines.at(slot);
  if (std::all_of(group.begin(), group.end(), [](const auto& one) { return one->ended(); })) drop(slot);
  tick();
}

void engine_supervisor_state::on_exit_request(caf::error reason) {
  // Ends after its workers, so that its successor's do not run beside this one's.
  quitting = std::move(reason);
  bool any = false;
  for (const auto& [slot, group] : engines) {
    for (const auto& engine : group) {
      if (!engine->has_worker()) continue;
      any = true;
      engine->end();
    }
  }
  if (!any) self->quit(*quitting);
}

caf::result<std::string> engine_supervisor_state::cause_fault(const fault_request& fault) {
  if (const auto* group = serving())
    for (const auto& engine : *group)
      if (engine->has_worker()) return self->delegate(engine->worker(), fault_atom_v, fault);
  return make_error(error_code::no_worker, "no worker runs now");
}

/// Those that do not serve: nothing of them shows in the component, whose matter is what requests get.
void engine_supervisor_state::look_at_others() {
  std::vector<std::uint64_t> others;
  for (const auto& [slot, group] : engines)
    if (group.front()->role() != model_role::serving) others.push_back(slot);
  for (const auto slot : others) {
    const auto& group = engines.at(slot);
    for (const auto& engine : group) engine->judge();
    if (group.front()->role() == model_role::candidate) look_at_candidate(slot);
  }
}

/// It serves once every engine of it has shown what it can do, and one of them works.
void engine_supervisor_state::look_at_candidate(std::uint64_t slot) {
  std::size_t works = 0;
  std::size_t failed = 0;
  const auto& group = engines.at(slot);
  for (const auto& engine : group) {
    if (engine->failure())
      ++failed;
    else if (engine->announced())
      ++works;
  }
  if (failed == group.size())
    release(slot);
  else if (works + failed == group.size())
    promote(slot);
}

engine_verdict engine_supervisor_state::judge() {
  if (router_ended) return lost_verdict("the router ended; restart the server");
  look_at_others();
  const auto* group = serving();
  if (group == nullptr) return unhealthy_verdict("waiting_for_model", "waiting for the model");
  std::vector<engine_verdict> verdicts;
  for (const auto& engine : *group) verdicts.push_back(engine->judge());
  return combine(verdicts, *group);
}

engine_sample engine_supervisor_state::sample() const {
  auto s = options.ledger->totals;
  s.queue_capacity = options.generation.max_queued;
  for (const auto& [slot, group] : engines) {
    for (const auto& engine : group) {
      const auto* board = engine->board();
      if (board == nullptr) continue;
      add_work(s, *board);
      s.running += board->running.load(relaxed);
      s.queued += board->queued.load(relaxed);
      s.kv_blocks_used += board->kv_blocks_used.load(relaxed);
      s.kv_blocks_total += board->kv_blocks_total.load(relaxed);
    }
  }
  const auto* current = serving();
  if (current == nullptr) return s;
  s.queue_capacity = current->size() * options.generation.max_queued;
  for (const auto& engine : *current) {
    s.workers += engine->announced() ? 1 : 0;
    if (engine->board() != nullptr)
      s.step_seconds_p99 = std::max(s.step_seconds_p99, step_seconds_p99(*engine->board()));
    if (engine->device_name().empty()) continue;
    s.devices.push_back({std::string(engine->device_name()), engine->announced(),
                         engine->board() == nullptr ? 0 : engine->board()->running.load(relaxed)});
  }
  const auto* model = current->front()->model();
  if (!options.backend.processes || model == nullptr) return s;
  for (const auto& one : options.backend.processes()) {
    if (one.model != model) continue;
    s.loader_pid = static_cast<std::uint32_t>(one.loader);
    s.engine_pids.assign(one.engines.begin(), one.engines.end());
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
      [self](restart_atom, std::uint64_t worker, std::uint64_t generation) {
        self->state.restart(worker, generation);
      },
  };
}

}  // namespace bitnet::actors
