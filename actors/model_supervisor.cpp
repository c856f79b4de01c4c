#include "actors/model_supervisor.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <new>
#include <utility>

namespace bitnet::actors {

namespace {

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

engine::result<std::shared_ptr<const engine::model>> load_guarded(const model_supervisor_options& options,
                                                                  std::atomic<float>& progress) {
  engine::load_options load;
  load.threads = options.load_threads;
  load.warn = [](const std::string& sentence) { spdlog::warn("model: {}", sentence); };
  load.progress = [&progress](float fraction) { progress.store(fraction, std::memory_order_relaxed); };
  try {
    return options.backend.load_model(options.path, load);
  } catch (const std::bad_alloc&) {
    return engine::fail(
        engine::error_code::out_of_memory,
        fmt::format("Not enough memory to load {}; use a smaller model.", options.path.string()));
  } catch (const std::exception& e) {
    return engine::fail(engine::error_code::internal,
                        fmt::format("Loading {} failed: {}", options.path.string(), e.what()));
  }
}

}  // namespace

std::optional<engine::file_identity> model_supervisor_state::identify() const {
  auto found = options.identify(options.path);
  if (!found) return std::nullopt;
  return *found;
}

void model_supervisor_state::load() {
  identity = identify();
  loading = true;
  error.reset();
  progress = std::make_shared<std::atomic<float>>(0.0F);
  last_progress = -1;
  progressed = self->clock().now();
  const auto number = ++loads;
  // The loader blocks for seconds, the supervisor must go on reporting.
  auto body = [parent = model_supervisor_actor(self), number, settings = options,
               fraction = progress](instrumented_actor* me) {
    me->set_process_name("model-loader");
    me->set_patience(settings.stalled_load);
    load_outcome outcome{number, load_guarded(settings, *fraction), {}};
    if (outcome.model && settings.backend.make_scrub)
      outcome.scrub = settings.backend.make_scrub(*outcome.model);
    me->send(parent, std::move(outcome));
  };
  loader = options.detach_loader ? self->home_system().spawn<caf::detached>(std::move(body))
                                 : self->home_system().spawn(std::move(body));
  self->monitor(loader);
}

void model_supervisor_state::reload(std::string why) {
  load_again(std::move(why), reloads, ", also after loading them again; check the machine's memory");
}

void model_supervisor_state::replace_lost(std::string why) {
  load_again(std::move(why), losses, ", again and again; see the log, and restart the server");
}

void model_supervisor_state::load_again(std::string why, restart_policy& policy, const char* hopeless) {
  if (loading || broken) return;
  spdlog::error("model: {}", why);
  // Let go of the bad weights first: there may not be memory for both.
  model = nullptr;
  scrub = nullptr;
  if (subscriber) self->send(subscriber, fence_atom_v, why);
  if (options.on_loaded) options.on_loaded(nullptr);
  if (policy.on_failure(self->clock().now())) {
    load();
    reason = std::move(why);
  } else {
    broken = why + hopeless;
  }
}

void model_supervisor_state::on_outcome(load_outcome outcome) {
  if (!loading || outcome.load != loads) return;
  loading = false;
  loader = nullptr;
  if (!outcome.model) {
    error = outcome.model.error();
    failed = self->clock().now();
    spdlog::error("model: {}", error->message);
  } else {
    model = *outcome.model;
    reason.clear();
    scrub = std::move(outcome.scrub);
    spdlog::info("model: {} loaded", model->id);
    if (options.on_loaded) options.on_loaded(model);
    if (subscriber) self->send(subscriber, loaded_model{model, loads});
  }
  tick();
}

void model_supervisor_state::on_loader_down(const caf::down_msg& down) {
  if (!loading || !loader || down.source != loader.address()) return;
  // Its outcome comes before its end; without one it died.
  on_outcome({loads,
              engine::fail(engine::error_code::internal,
                           "The loader ended without a result: " + caf::to_string(down.reason)),
              {}});
}

component_report model_supervisor_state::check_loading() {
  const auto fraction = progress->load(std::memory_order_relaxed);
  const auto now = self->clock().now();
  if (fraction != last_progress) {
    last_progress = fraction;
    progressed = now;
  }
  auto text = fmt::format("loading {:.0f} %", 100 * fraction);
  if (!reason.empty()) text += " again, because " + reason;
  const bool stalled = now - progressed > options.stalled_load;
  if (stalled)
    text += fmt::format(", stalled for {} s",
                        std::chrono::duration_cast<std::chrono::seconds>(now - progressed).count());
  return say(health_status::unhealthy, stalled ? "load_stalled" : "loading", std::move(text));
}

component_report model_supervisor_state::check_failed() {
  bool retry = false;
  switch (error->code) {
    case engine::error_code::file_not_found:
    case engine::error_code::file_malformed:
    case engine::error_code::unsupported_model:
      retry = identify() != identity;  // it is another file now
      break;
    case engine::error_code::invalid_request:
    case engine::error_code::prompt_too_long:
    case engine::error_code::out_of_kv_cache:
    case engine::error_code::queue_full:
    case engine::error_code::out_of_memory:
    case engine::error_code::internal:
      retry = self->clock().now() - failed >= options.retry;
      break;
  }
  auto report = say(health_status::unhealthy, "load_failed", "not loaded: " + error->message);
  if (retry) load();
  return report;
}

component_report model_supervisor_state::check_loaded() {
  const auto file = options.path.string();
  if (!identity) identity = identify();  // it appeared while it was being loaded
  switch (identity ? options.detect(options.path, *identity) : engine::file_change::missing) {
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

component_report model_supervisor_state::check() {
  if (model && options.backend.model_lost)
    if (auto why = options.backend.model_lost()) replace_lost(std::move(*why));
  if (scrub)
    if (const auto region = scrub(options.scrub_bytes))
      reload("the weights " + *region + " changed in memory");
  if (broken) return say(health_status::unhealthy, "weights_corrupted", *broken, true);
  if (loading) return check_loading();
  return error ? check_failed() : check_loaded();
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
  state.load();
  self->send(self, tick_atom_v);
  return {
      [self](tick_atom) {
        self->state.tick();
        self->delayed_send(self, self->state.options.period, tick_atom_v);
      },
      [self](load_outcome& outcome) { self->state.on_outcome(std::move(outcome)); },
      [self](reload_atom) { self->state.reload("the weights give wrong results"); },
      [self](subscribe_atom, const engine_supervisor_actor& subscriber) {
        self->state.subscriber = subscriber;
        if (self->state.model) self->send(subscriber, loaded_model{self->state.model, self->state.loads});
      },
  };
}

}  // namespace bitnet::actors
