#pragma once

#include "actors/inference_engine.hpp"
#include "actors/interfaces.hpp"
#include "actors/introspection/instrumented.hpp"
#include "actors/restart_policy.hpp"
#include "engine/model_identity.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

namespace bitnet::actors {

struct model_supervisor_options {
  std::filesystem::path path;
  std::size_t load_threads = 0;
  inference_backend backend;
  aggregator_actor aggregator;
  std::chrono::milliseconds period{500};
  std::chrono::seconds retry{30};          ///< after a failure that the file is not to blame for
  std::chrono::seconds stalled_load{120};  ///< loading without progress for this long is said to be stalled
  std::size_t scrub_bytes = std::size_t{32} << 20;  ///< of weights checked a period; about 0.1 ms a MB
  /// Wrong weights in memory are loaded again; this often means that the machine is broken.
  restart_limits reloads{.max_restarts = 2, .period = std::chrono::hours(1)};
  restart_limits losses;  ///< of the process that holds the weights; likewise
  /// Called on the supervisor's thread with each loaded model, and with nullptr when its weights went bad.
  std::function<void(std::shared_ptr<const engine::model>)> on_loaded;
  /// Of the model file; injected in tests.
  std::function<engine::result<engine::file_identity>(const std::filesystem::path&)> identify =
      engine::identify_file;
  std::function<engine::file_change(const std::filesystem::path&, const engine::file_identity&)> detect =
      engine::detect_change;
  bool detach_loader = true;  ///< false under a test scheduler
};

struct model_supervisor_state {
  static inline const char* name = "model-supervisor";

  model_supervisor_actor::pointer self;
  model_supervisor_options options;
  std::uint64_t loads = 0;  ///< begun so far
  bool loading = false;
  caf::actor loader;
  std::shared_ptr<std::atomic<float>> progress;  ///< of the current load, [0, 1]
  float last_progress = -1;
  steady_time progressed{};
  std::shared_ptr<const engine::model> model;
  weight_scrub scrub;                             ///< of `model`
  std::optional<engine::file_identity> identity;  ///< of the file before the last load
  std::optional<engine::error> error;             ///< of the last load
  steady_time failed{};
  std::string reason;                 ///< why it is loaded again; empty at first
  std::optional<std::string> broken;  ///< why the weights cannot be trusted any more
  restart_policy reloads;
  restart_policy losses;
  engine_supervisor_actor subscriber;

  explicit model_supervisor_state(model_supervisor_actor::pointer owner) : self(owner) {}

  void load();
  /// The weights in memory are wrong: nobody may use them, load them again.
  void reload(std::string why);
  /// The weights are gone, with the process that held them: load them again.
  void replace_lost(std::string why);
  void on_outcome(load_outcome outcome);
  void on_loader_down(const caf::down_msg& down);
  void tick();

 private:
  component_report check();
  component_report check_loading();
  component_report check_failed();
  component_report check_loaded();
  void load_again(std::string why, restart_policy& policy, const char* hopeless);
  std::optional<engine::file_identity> identify() const;
};

/// A missing or bad file is not ready, yet live, and loaded as soon as it is there. A file that was replaced,
/// unlinked, truncated or written to degrades: the weights are in memory and sound, but a restart would not
/// give the same server. Weights that changed in memory are loaded again.
model_supervisor_actor::behavior_type model_supervisor(
    instrumented_pointer<model_supervisor_actor, model_supervisor_state> self,
    model_supervisor_options options);

}  // namespace bitnet::actors
