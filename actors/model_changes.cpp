#include "actors/model_supervisor.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

// Models that are loaded and unloaded at run time. One goes through these steps; at each of them the serving
// one goes on:
//
//   load_another     a loader finds the file, checks that there is room beside the serving model, and loads
//   loaded_model     to the engine supervisor: start this candidate's engine and run its canary
//   on_ready         the candidate serves: requests that come from now on are tokenised for it and get its
//   slot.
//                    The old model retires: it has the requests that hold its lease, and the engine for them
//   look_at_retiring the lease is gone with the last of them: the engine supervisor is to end the old engine
//   on_released      it has: the old weights go
//
// So at most two models are in memory.

namespace bitnet::actors {

namespace {

constexpr const char* going = "The server is shutting down; try another one.";

}  // namespace

/// For the history, and with it for the log.
void model_supervisor_state::note(std::string_view code, std::string message) {
  self->send(options.aggregator, health_note{"model", std::string(code), std::move(message)});
}

/// Why nothing can be loaded or unloaded now.
std::optional<std::string> model_supervisor_state::obstacle() const {
  if (candidate) return fmt::format("{} is being loaded; wait until that has ended", candidate->name);
  if (loading) return "the model is being loaded; wait until that has ended";
  return std::nullopt;
}

caf::result<loaded_model> model_supervisor_state::load_another(const std::string& file) {
  if (options.directories.empty())
    return make_error(error_code::models_fixed,
                      "models cannot be changed at run time here: models.directories is not set");
  if (draining) return make_error(error_code::draining, going);
  if (auto why = obstacle()) return make_error(error_code::change_in_progress, std::move(*why));
  look_at_retiring();
  const auto streaming =
      std::find_if(retiring.begin(), retiring.end(), [](const retiring_model& old) { return !old.released; });
  if (model && streaming != retiring.end())
    return make_error(error_code::change_in_progress,
                      fmt::format("{} still finishes its streams; try again later", streaming->model->id));
  model_candidate next;
  next.file = file;
  next.name = printable(file);
  next.slot = ++options.choice->last_slot;
  auto answer = next.answer = self->make_response_promise<loaded_model>();
  candidate = std::move(next);
  begin_candidate();
  tick();
  return answer;
}

/// Where there is room for it: two models at most. An old one whose engine is being ended is waited for.
void model_supervisor_state::begin_candidate() {
  if (!candidate || candidate->load || retiring.size() + (model ? 1 : 0) > 1) return;
  candidate->load =
      begin_load([roots = options.directories, file = candidate->file] { return roots.resolve(file); }, true);
}

void model_supervisor_state::drain() {
  draining = true;
  if (!candidate) return;
  // Who waits hears of it now: soon there is nobody to tell. One that is loaded already is seconds from its
  // end.
  if (candidate->answer.pending()) candidate->answer.deliver(make_error(error_code::draining, going));
  if (candidate->load)
    candidate->load->shared->cancelled.store(true);
  else
    candidate.reset();
}

void model_supervisor_state::on_candidate_loaded(load_outcome outcome) {
  if (!outcome.model) {
    reject(std::move(outcome.model.error()));
    return;
  }
  candidate->model = std::move(*outcome.model);
  candidate->scrub = std::move(outcome.scrub);
  if (subscriber)
    self->send(subscriber,
               loaded_model{candidate->model, outcome.load, candidate->slot, model_role::candidate});
}

/// The candidate is given up; what serves goes on.
void model_supervisor_state::reject(failure why) {
  note("model_load_failed", fmt::format("{} was not loaded: {}", candidate->name, why.message));
  if (candidate->answer.pending()) candidate->answer.deliver(make_error(why.code, std::move(why.message)));
  if (candidate->model) unload_now(*candidate->model);
  candidate.reset();
}

void model_supervisor_state::on_rejected(std::uint64_t slot, std::string why) {
  if (!candidate || candidate->slot != slot) return;
  reject({error_code::internal, std::move(why)});
  tick();
}

void model_supervisor_state::on_ready(std::uint64_t slot) {
  if (!candidate || candidate->slot != slot || !candidate->model) return;
  auto next = std::move(*candidate);
  candidate.reset();
  if (loading) std::exchange(loading, std::nullopt)->shared->cancelled.store(true);
  const auto old = model ? model->id : std::string();
  retire_current();
  error.reset();
  reason.clear();
  broken.reset();
  reloads = restart_policy(options.reloads);
  losses = restart_policy(options.losses);
  auto& choice = *options.choice;
  choice.file = next.model->path;
  choice.unloaded = false;
  choice.slot = slot;
  identity = next.model->identity;
  scrub = std::move(next.scrub);
  serve(std::move(next.model));
  note("model_loaded", old.empty() ? fmt::format("{} was loaded and serves", model->id)
                                   : fmt::format("{} was loaded and serves instead of {}", model->id, old));
  if (next.answer.pending()) next.answer.deliver(loaded_model{model, next.load->number, slot});
  tick();
}

/// The current model gets no new requests any more.
void model_supervisor_state::retire_current() {
  scrub = nullptr;
  if (model) {
    if (subscriber) self->send(subscriber, retire_atom_v, options.choice->slot);
    retiring.push_back({options.choice->slot, std::move(model), lease});
    model = nullptr;
  } else if (subscriber && !options.choice->unloaded) {
    self->send(subscriber, release_atom_v, options.choice->slot);  // its engine waits for weights
  }
  lease.reset();
}

caf::result<std::string> model_supervisor_state::unload(const std::string& id) {
  if (options.directories.empty())
    return make_error(error_code::models_fixed,
                      "models cannot be changed at run time here: models.directories is not set");
  if (!options.choice->unloaded && id == options.choice->file.stem())
    if (auto why = obstacle()) return make_error(error_code::change_in_progress, std::move(*why));
  if (!model || model->id != id)
    return make_error(error_code::model_not_found, fmt::format("{} does not serve", printable(id)));
  if (options.on_served) options.on_served(nullptr);
  retire_current();
  options.choice->unloaded = true;
  note("model_unloaded", fmt::format("{} is unloaded on request", id));
  tick();
  return id;
}

void model_supervisor_state::look_at_retiring() {
  for (auto& old : retiring) {
    const bool lost = options.backend.model_lost && options.backend.model_lost(*old.model);
    if (old.released || !(lost || old.lease.expired())) continue;
    old.released = true;
    if (lost) spdlog::error("model: the process of {} ended before its streams", old.model->id);
    if (subscriber) self->send(subscriber, release_atom_v, old.slot);
  }
}

void model_supervisor_state::on_released(std::uint64_t slot) {
  const auto old = std::find_if(retiring.begin(), retiring.end(),
                                [slot](const retiring_model& one) { return one.slot == slot; });
  if (old == retiring.end()) return;
  unload_now(*old->model);
  spdlog::info("model: {} is unloaded", old->model->id);
  retiring.erase(old);
  begin_candidate();
  tick();
}

void model_supervisor_state::on_wrong_results(std::uint64_t slot) {
  if (slot == options.choice->slot && model) reload("the weights give wrong results");
  for (auto& old : retiring) {
    if (old.slot != slot || std::exchange(old.released, true)) continue;
    spdlog::error("model: the weights of {} give wrong results; its streams end", old.model->id);
    if (subscriber) self->send(subscriber, release_atom_v, slot);
  }
}

/// What is under way, to be added to the component's message.
std::string model_supervisor_state::tell_changes() {
  std::string text;
  if (candidate && candidate->model) {
    text += fmt::format("; {} is loaded and being proved", candidate->model->id);
  } else if (candidate && candidate->load) {
    text += fmt::format("; {} is being loaded, {:.0f} %", candidate->name,
                        100 * candidate->load->shared->progress.load(std::memory_order_relaxed));
    if (const auto stalled = stalled_for(*candidate->load, self->clock().now(), options.stalled_load))
      text += fmt::format(", stalled for {} s", stalled->count());
  }
  for (const auto& old : retiring) text += fmt::format("; {} finishes its streams", old.model->id);
  return text;
}

}  // namespace bitnet::actors
