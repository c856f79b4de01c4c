#pragma once

#include "actors/inference_engine.hpp"
#include "actors/interfaces.hpp"
#include "actors/introspection/instrumented.hpp"
#include "actors/model_directories.hpp"
#include "actors/restart_policy.hpp"
#include "engine/model_identity.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace bitnet::actors {

/// Which model is to be served. Outlives the supervisor, so that its successor serves the same one.
struct model_choice {
  std::filesystem::path file;  ///< the one that serves, or served last
  bool unloaded = false;       ///< on request: nothing is to be served
  std::uint64_t slot = 0;      ///< of `file`
  std::uint64_t last_slot = 0;
};

struct model_supervisor_options {
  std::shared_ptr<model_choice> choice = std::make_shared<model_choice>();
  std::size_t load_threads = 0;
  engine::generation_options generation;  ///< of the engine, for what memory it needs
  inference_backend backend;
  aggregator_actor aggregator;
  std::chrono::milliseconds period{500};
  std::chrono::seconds retry{30};          ///< after a failure that the file is not to blame for
  std::chrono::seconds stalled_load{120};  ///< loading without progress for this long is said to be stalled
  std::size_t scrub_bytes = std::size_t{32} << 20;  ///< of weights checked a period; about 0.1 ms a MB
  /// Wrong weights in memory are loaded again; this often means that the machine is broken.
  restart_limits reloads{.max_restarts = 2, .period = std::chrono::hours(1)};
  restart_limits losses;  ///< of the process that holds the weights; likewise
  /// Called on the supervisor's thread with each model that gets requests from now on, and with nullptr when
  /// none does.
  std::function<void(std::shared_ptr<const served_model>)> on_served;
  /// Files that clients may have loaded; empty: none, and nothing can be unloaded either.
  model_directories directories;
  /// Of the model file; injected in tests.
  std::function<engine::result<engine::file_identity>(const std::filesystem::path&)> identify =
      engine::identify_file;
  std::function<engine::file_change(const std::filesystem::path&, const engine::file_identity&)> detect =
      engine::detect_change;
  bool detach_loader = true;  ///< false under a test scheduler
};

/// A load on a thread of its own, seen from the supervisor.
struct model_load {
  /// What both sides touch.
  struct shared_state {
    std::atomic<float> progress{0.0F};  ///< [0, 1]
    std::atomic<bool> cancelled{false};
  };

  std::uint64_t number = 0;
  caf::actor loader;
  std::shared_ptr<shared_state> shared;
  float last_progress = -1;
  steady_time progressed{};
};

/// A model that is to replace the serving one.
struct model_candidate {
  std::string file;                ///< as the client wrote it
  std::string name;                ///< the same, to be shown
  std::optional<model_load> load;  ///< nothing: it waits for the end of an old model's engine
  std::uint64_t slot = 0;
  std::shared_ptr<const engine::model> model;  ///< once loaded
  weight_scrub scrub;
  caf::typed_response_promise<loaded_model> answer;
};

/// A model that finishes its streams.
struct retiring_model {
  std::uint64_t slot = 0;
  std::shared_ptr<const engine::model> model;
  std::weak_ptr<const void> lease;  ///< expires with the last request
  bool released = false;            ///< the engine supervisor was told to end its engine
};

struct model_supervisor_state {
  static inline const char* name = "model-supervisor";

  model_supervisor_actor::pointer self;
  model_supervisor_options options;
  std::uint64_t loads = 0;            ///< begun so far
  std::optional<model_load> loading;  ///< of the file that is to be served
  std::shared_ptr<const engine::model> model;
  std::shared_ptr<const void> lease;              ///< of the slot, see served_model
  weight_scrub scrub;                             ///< of `model`
  std::optional<engine::file_identity> identity;  ///< of the file before the last load
  std::optional<failure> error;                   ///< of the last load
  steady_time failed{};
  std::string reason;                 ///< why it is loaded again; empty at first
  std::optional<std::string> broken;  ///< why the weights cannot be trusted any more
  restart_policy reloads;
  restart_policy losses;
  engine_supervisor_actor subscriber;
  std::optional<model_candidate> candidate;
  std::vector<retiring_model> retiring;
  bool draining = false;

  explicit model_supervisor_state(model_supervisor_actor::pointer owner) : self(owner) {}
  ~model_supervisor_state();

  void load();
  /// The weights in memory are wrong: nobody may use them, load them again.
  void reload(std::string why);
  /// The weights are gone, with the process that held them: load them again.
  void replace_lost(std::string why);
  void on_outcome(load_outcome outcome);
  void on_loader_down(const caf::down_msg& down);
  void subscribe(engine_supervisor_actor engines);
  void tick();

  // At run time (model_changes.cpp).
  caf::result<loaded_model> load_another(const std::string& file);
  void drain();
  caf::result<std::string> unload(const std::string& id);
  void on_candidate_loaded(load_outcome outcome);
  void on_ready(std::uint64_t slot);
  void on_rejected(std::uint64_t slot, std::string why);
  void on_released(std::uint64_t slot);
  void on_wrong_results(std::uint64_t slot);

 private:
  component_report check();
  component_report check_own();
  component_report check_loading();
  component_report check_failed();
  component_report check_loaded();
  void load_again(std::string why, restart_policy& policy, const char* hopeless);
  std::optional<engine::file_identity> identify() const;
  model_load begin_load(std::function<tl::expected<std::filesystem::path, failure>()> which, bool beside);
  void serve(std::shared_ptr<const engine::model> loaded);
  void unload_now(const engine::model& loaded) const;

  std::optional<std::string> obstacle() const;
  void begin_candidate();
  void look_at_retiring();
  void retire_current();
  void reject(failure why);
  void note(std::string_view code, std::string message);
  std::string tell_changes();
};

/// Follows a load's progress: how long it has made none, where that is longer than `limit`.
std::optional<std::chrono::seconds> stalled_for(model_load& load, steady_time now,
                                                std::chrono::seconds limit);

/// A missing or bad file is not ready, yet live, and loaded as soon as it is there. A file that was replaced,
/// unlinked, truncated or written to degrades: the weights are in memory and sound, but a restart would not
/// give the same server. Weights that changed in memory are loaded again.
model_supervisor_actor::behavior_type model_supervisor(
    instrumented_pointer<model_supervisor_actor, model_supervisor_state> self,
    model_supervisor_options options);

}  // namespace bitnet::actors
