#pragma once

#include "actors/inference_engine.hpp"
#include "actors/interfaces.hpp"
#include "actors/probes/file_identity.hpp"

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
  std::chrono::milliseconds period{1000};
  std::chrono::seconds retry{30};          ///< after a failure that the file is not to blame for
  std::chrono::seconds stalled_load{120};  ///< loading without progress for this long is said to be stalled
  /// Called on the supervisor's thread with each loaded model.
  std::function<void(std::shared_ptr<const engine::model>)> on_loaded;
  /// Of the model file; injected in tests.
  std::function<std::optional<file_identity>(const std::filesystem::path&)> identify = identify_file;
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
  std::optional<file_identity> identity;  ///< of the file before the last load
  std::optional<engine::error> error;     ///< of the last load
  steady_time failed{};
  bool fenced = false;
  engine_supervisor_actor subscriber;

  explicit model_supervisor_state(model_supervisor_actor::pointer owner) : self(owner) {}

  void load();
  void on_outcome(load_outcome outcome);
  void on_loader_down(const caf::down_msg& down);
  void tick();

 private:
  component_report check();
  component_report check_loading();
  component_report check_failed(const std::optional<file_identity>& now);
  component_report check_loaded(const std::optional<file_identity>& now);
};

/// Faults 13 to 15 of docs/operations.md: a missing or bad file is not ready, yet live, and loaded as soon as
/// it is there; a replaced or unlinked one degrades; a truncated one is fatal.
model_supervisor_actor::behavior_type model_supervisor(
    model_supervisor_actor::stateful_pointer<model_supervisor_state> self, model_supervisor_options options);

}  // namespace bitnet::actors
