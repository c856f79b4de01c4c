#include "actors/model_supervisor.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <new>
#include <utility>

namespace bitnet::actors {

namespace {

using file_choice = std::function<tl::expected<std::filesystem::path, failure>()>;
using loaded = tl::expected<std::shared_ptr<const engine::model>, failure>;

component_report say(health_status status, std::string_view code, std::string message,
                     bool cannot_heal = false) {
  component_report report;
  report.code = code;
  report.component = "model";
  report.status = status;
  report.message = std::move(message);
  report.cannot_heal = cannot_heal;
  return report;
}

failure to_failure(engine::error e) {
  return {from_engine(e.code), std::move(e.message)};
}

/// `beside`: other models stay loaded meanwhile.
loaded load_guarded(const model_supervisor_options& options, const file_choice& which, bool beside,
                    model_load::shared_state& shared) {
  engine::load_options load;
  load.threads = options.load_threads;
  load.cancelled = &shared.cancelled;
  load.warn = [](const std::string& sentence) { spdlog::warn("model: {}", sentence); };
  load.progress = [&shared](float fraction) { shared.progress.store(fraction, std::memory_order_relaxed); };
  auto file = which();
  if (!file) return tl::unexpected(std::move(file.error()));
  try {
    if (beside && options.backend.check_room)
      if (auto room = options.backend.check_room(*file, load, options.generation); !room)
        return tl::unexpected(to_failure(std::move(room.error())));
    auto model = options.backend.load_model(*file, load);
    if (!model) return tl::unexpected(to_failure(std::move(model.error())));
    return std::move(*model);
  } catch (const std::bad_alloc&) {
    return tl::unexpected(
        failure{error_code::out_of_memory,
                fmt::format("Not enough memory to load {}; use a smaller model.", file->string())});
  } catch (const std::exception& e) {
    return tl::unexpected(
        failure{error_code::internal, fmt::format("Loading {} failed: {}", file->string(), e.what())});
  }
}

}  // namespace

std::optional<std::chrono::seconds> stalled_for(model_load& load, steady_time now,
                                                std::chrono::seconds limit) {
  const auto fraction = load.shared->progress.load(std::memory_order_relaxed);
  if (fraction != load.last_progress) {
    load.last_progress = fraction;
    load.progressed = now;
  }
  if (now - load.progressed <= limit) return std::nullopt;
  return std::chrono::duration_cast<std::chrono::seconds>(now - load.progressed);
}

model_supervisor_state::~model_supervisor_state() {
  // Loads run on threads that know nothing of this end, and hold it up at the end of the server.
  if (loading) loading->shared->cancelled.store(true);
  if (candidate) {
    if (candidate->load) candidate->load->shared->cancelled.store(true);
    if (candidate->answer.pending())
      candidate->answer.deliver(
          make_error(error_code::draining, "The server ended, or had to start its supervisor again."));
  }
  if (model) unload_now(*model);
  if (candidate && candidate->model) unload_now(*candidate->model);
  for (const auto& old : retiring) unload_now(*old.model);
}

void model_supervisor_state::unload_now(const engine::model& loaded) const {
  if (options.backend.unload) options.backend.unload(loaded);
}

std::optional<engine::file_identity> model_supervisor_state::identify() const {
  auto found = options.identify(options.choice->file);
  if (!found) return std::nullopt;
  return *found;
}

model_load model_supervisor_state::begin_load(file_choice which, bool beside) {
  model_load begun;
  begun.shared = std::make_shared<model_load::shared_state>();
  begun.progressed = self->clock().now();
  begun.number = ++loads;
  // The loader blocks for seconds, the supervisor must go on reporting.
  auto body = [parent = model_supervisor_actor(self), number = begun.number, settings = options, beside,
               which = std::move(which), shared = begun.shared](instrumented_actor* me) {
    me->set_process_name("model-loader");
    me->set_patience(settings.stalled_load);
    load_outcome outcome{number, load_guarded(settings, which, beside, *shared), {}};
    if (outcome.model && settings.backend.make_scrub)
      outcome.scrub = settings.backend.make_scrub(*outcome.model);
    me->send(parent, std::move(outcome));
  };
  begun.loader = options.detach_loader ? self->home_system().spawn<caf::detached>(std::move(body))
                                       : self->home_system().spawn(std::move(body));
  self->monitor(begun.loader);
  return begun;
}

void model_supervisor_state::load() {
  identity = identify();
  error.reset();
  loading = begin_load([file = options.choice->file] { return file; }, false);
}

void model_supervisor_state::reload(std::string why) {
  load_again(std::move(why), reloads, ", also after loading them again; check the machine's memory");
}

void model_supervisor_state::replace_lost(std::string why) {
  load_again(std::move(why), losses, ", again and again; see the log, and restart the server");
}

void model_supervisor_state::load_again(std::string why, restart_policy& policy, const char* hopeless) {
  if (loading || broken || !model) return;
  spdlog::error("model: {}", why);
  // Let go of the bad weights first: there may not be memory for both.
  unload_now(*model);
  model = nullptr;
  scrub = nullptr;
  if (subscriber) self->send(subscriber, fence_atom_v, options.choice->slot, why);
  if (options.on_served) options.on_served(nullptr);
  if (policy.on_failure(self->clock().now())) {
    load();
    reason = std::move(why);
  } else {
    broken = why + hopeless;
  }
}

/// The model of the current slot takes requests from now on.
void model_supervisor_state::serve(std::shared_ptr<const engine::model> loaded) {
  model = std::move(loaded);
  if (!lease) lease = std::make_shared<const char>();
  if (options.on_served)
    options.on_served(std::make_shared<const served_model>(served_model{model, options.choice->slot, lease}));
}

void model_supervisor_state::on_outcome(load_outcome outcome) {
  if (candidate && candidate->load && outcome.load == candidate->load->number) {
    on_candidate_loaded(std::move(outcome));
    tick();
    return;
  }
  if (!loading || outcome.load != loading->number) {
    if (outcome.model) unload_now(**outcome.model);  // nobody wants it any more
    return;
  }
  loading.reset();
  if (!outcome.model) {
    error = std::move(outcome.model.error());
    failed = self->clock().now();
    spdlog::error("model: {}", error->message);
  } else {
    reason.clear();
    scrub = std::move(outcome.scrub);
    spdlog::info("model: {} loaded", (*outcome.model)->id);
    serve(std::move(*outcome.model));
    if (subscriber) self->send(subscriber, loaded_model{model, outcome.load, options.choice->slot});
  }
  tick();
}

void model_supervisor_state::on_loader_down(const caf::down_msg& down) {
  // Its outcome comes before its end; without one it died.
  const auto died = [&](const model_load& load) {
    return load.loader && down.source == load.loader.address();
  };
  std::uint64_t number = 0;
  if (loading && died(*loading)) number = loading->number;
  if (candidate && candidate->load && !candidate->model && died(*candidate->load))
    number = candidate->load->number;
  if (number == 0) return;
  on_outcome({number,
              tl::unexpected(failure{error_code::internal,
                                     "The loader ended without a result: " + caf::to_string(down.reason)}),
              {}});
}

void model_supervisor_state::subscribe(engine_supervisor_actor engines) {
  subscriber = std::move(engines);
  for (const auto& old : retiring) {
    self->send(subscriber, loaded_model{old.model, loads, old.slot, model_role::retiring});
    if (old.released) self->send(subscriber, release_atom_v, old.slot);
  }
  if (model) self->send(subscriber, loaded_model{model, loads, options.choice->slot});
  if (candidate && candidate->model)
    self->send(subscriber, loaded_model{candidate->model, loads, candidate->slot, model_role::candidate});
}

component_report model_supervisor_state::check_loading() {
  auto text =
      fmt::format("loading {:.0f} %", 100 * loading->shared->progress.load(std::memory_order_relaxed));
  if (!reason.empty()) text += " again, because " + reason;
  const auto stalled = stalled_for(*loading, self->clock().now(), options.stalled_load);
  if (stalled) text += fmt::format(", stalled for {} s", stalled->count());
  return say(health_status::unhealthy, stalled ? "load_stalled" : "loading", std::move(text));
}

component_report model_supervisor_state::check_failed() {
  const bool file_is_to_blame = error->code == error_code::file_not_found ||
                                error->code == error_code::file_malformed ||
                                error->code == error_code::unsupported_model;
  const bool retry = file_is_to_blame ? identify() != identity  // it is another file now
                                      : self->clock().now() - failed >= options.retry;
  auto report = say(health_status::unhealthy, "load_failed", "not loaded: " + error->message);
  if (retry) load();
  return report;
}

component_report model_supervisor_state::check_loaded() {
  const auto file = options.choice->file.string();
  if (!identity) identity = identify();  // it appeared while it was being loaded
  switch (identity ? options.detect(options.choice->file, *identity) : engine::file_change::missing) {
    case engine::file_change::none:
      return say(health_status::healthy, health_ok, model->id + " is loaded");
    case engine::file_change::replaced:
      return say(health_status::degraded, "file_replaced",
                 "the file " + file + " was replaced; restart to serve the new one");
    case engine::file_change::missing:
      return say(health_status::degraded, "file_missing",
                 "the file " + file + " is gone; restore it, or a restart fails");
    case engine::file_change::truncated:
      return say(health_status::degraded, "file_truncated",
                 "the file " + file + " was truncated; restore it, or a restart fails");
    case engine::file_change::modified:
      return say(health_status::degraded, "file_modified",
                 "the file " + file + " was written to; restart to check and load it");
  }
  return say(health_status::unhealthy, "file_unknown", "the state of the file " + file + " is unknown");
}

component_report model_supervisor_state::check_own() {
  if (model && options.backend.model_lost)
    if (auto why = options.backend.model_lost(*model)) replace_lost(std::move(*why));
  if (scrub)
    if (const auto region = scrub(options.scrub_bytes))
      reload("the weights " + *region + " changed in memory");
  if (options.choice->unloaded)
    return say(health_status::unhealthy, "no_model",
               fmt::format("{} was unloaded on request; POST /v1/models/load loads another",
                           options.choice->file.stem().string()));
  if (broken) return say(health_status::unhealthy, "weights_corrupted", *broken, true);
  if (loading) return check_loading();
  return error ? check_failed() : check_loaded();
}

component_report model_supervisor_state::check() {
  look_at_retiring();
  auto report = check_own();
  report.message += tell_changes();
  return report;
}

void model_supervisor_state::tick() {
  const auto began = std::chrono::steady_clock::now();
  auto report = check();
  report.check_ns = static_cast<std::uint64_t>((std::chrono::steady_clock::now() - began).count());
  report.period_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(options.period).count());
  self->send(options.aggregator, std::move(report));
}

model_supervisor_actor::behavior_type model_supervisor(
    instrumented_pointer<model_supervisor_actor, model_supervisor_state> self,
    model_supervisor_options options) {
  auto& state = self->state;
  state.reloads = restart_policy(options.reloads);
  state.losses = restart_policy(options.losses);
  state.options = std::move(options);
  self->set_down_handler([self](caf::down_msg& down) { self->state.on_loader_down(down); });
  if (!state.options.choice->unloaded) state.load();
  self->send(self, tick_atom_v);
  return {
      [self](tick_atom) {
        self->state.tick();
        self->delayed_send(self, self->state.options.period, tick_atom_v);
      },
      [self](load_outcome& outcome) { self->state.on_outcome(std::move(outcome)); },
      [self](load_atom, const std::string& name) { return self->state.load_another(name); },
      [self](unload_atom, const std::string& name) { return self->state.unload(name); },
      [self](drain_atom) { self->state.drain(); },
      [self](undrain_atom) { self->state.draining = false; },
      [self](ready_atom, std::uint64_t slot) { self->state.on_ready(slot); },
      [self](reject_atom, std::uint64_t slot, std::string& why) {
        self->state.on_rejected(slot, std::move(why));
      },
      [self](release_atom, std::uint64_t slot) { self->state.on_released(slot); },
      [self](reload_atom, std::uint64_t slot) { self->state.on_wrong_results(slot); },
      [self](subscribe_atom, engine_supervisor_actor& subscriber) {
        self->state.subscribe(std::move(subscriber));
      },
  };
}

}  // namespace bitnet::actors
