#pragma once

#include "actors/fault_injection.hpp"
#include "engine/error.hpp"
#include "engine/generation.hpp"
#include "engine/model.hpp"

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace bitnet::actors {

/// What a worker drives: engine::generation_loop in production, in a thread or through a process of its own;
/// fakes in tests, other devices later. Same contracts as generation_loop. Owned by one thread, unless the
/// comment says otherwise.
class inference_engine {
 public:
  virtual ~inference_engine() = default;

  virtual engine::result<void> submit(engine::generation_request request) = 0;
  virtual void cancel(engine::request_id id) = 0;
  virtual std::vector<engine::generation_event> step() = 0;
  virtual bool idle() const noexcept = 0;
  virtual engine::generation_stats stats() const noexcept = 0;
  virtual engine::result<std::uint64_t> probe_hash() = 0;

  /// Causes a fault that this engine knows; for drills.
  virtual fault_outcome cause_fault(const fault_request&) {
    return tl::unexpected<std::string>("this engine causes no faults");
  }

  /// Why the engine works no more, its process having ended; nothing while it does. What it was asked for is
  /// lost.
  virtual std::optional<std::string> lost() { return std::nullopt; }

  // For the thread that watches: any thread, never blocking or allocating.

  virtual engine::progress& progress() noexcept = 0;
  /// CLOCK_MONOTONIC of the last sign of life of an engine that gives one at least every `sign_interval` even
  /// when it has nothing to do; 0: this engine shows only its progress, and only while it works.
  virtual std::int64_t heartbeat_ns() const noexcept { return 0; }
  static constexpr std::chrono::milliseconds sign_interval{250};
  /// False once the engine's process has ended.
  virtual bool alive() const noexcept { return true; }
  /// The engine's process is stopped (SIGSTOP): its silence has a reason that will not go away by itself.
  virtual bool stopped() const noexcept { return false; }
  /// For how long its threads have waited for a CPU that others had, in all; 0: not known.
  virtual std::chrono::nanoseconds cpu_wait() const noexcept { return {}; }
  /// Ends work that hangs: kills the process, or asks the pass to give up at the next layer.
  virtual void give_up() noexcept { progress().cancel.store(true, std::memory_order_relaxed); }
  /// give_up() ends the engine whatever it is doing, and another one costs little.
  virtual bool killable() const noexcept { return false; }
  /// Process that computes; 0: this one.
  virtual pid_t process_id() const noexcept { return 0; }

  /// The weights that changed in memory, where the engine watches its own. Any thread.
  virtual std::optional<std::string> corrupted_weights() const { return std::nullopt; }
};

/// Checks about `max_bytes` more of a model's weights against what they were after loading; round and round.
/// Returns the name of a region that changed. One thread at a time.
using weight_scrub = std::function<std::optional<std::string>(std::size_t max_bytes)>;

/// Processes besides this one that serve a model and have not ended; loader 0: none.
struct model_processes {
  const engine::model* model = nullptr;  ///< to compare, not to follow
  pid_t loader = 0;                      ///< has the weights
  std::vector<pid_t> engines;            ///< compute; share the loader's memory
};

/// How models and engines come into being.
struct inference_backend {
  /// Blocks for seconds; called on a thread of its own, also while other models serve. Must call
  /// options.progress, and give up soon after *options.cancelled.
  std::function<engine::result<std::shared_ptr<const engine::model>>(const std::filesystem::path&,
                                                                     const engine::load_options&)>
      load_model;
  /// Says why there is not the memory to load and serve this file's model beside those that are loaded,
  /// before anything is loaded. Empty: only trying tells.
  std::function<engine::result<void>(const std::filesystem::path&, const engine::load_options&,
                                     const engine::generation_options&)>
      check_room;
  /// Blocks while it allocates; called on the worker's thread. On the device with this index.
  std::function<engine::result<std::unique_ptr<inference_engine>>(
      std::shared_ptr<const engine::model>, const engine::generation_options&, std::size_t device)>
      create_engine;
  /// Names of the devices ("cuda:0") on each of which an engine of every model is to run; empty: one engine,
  /// on the CPU.
  std::vector<std::string> devices;
  /// Reads all weights once; called on the loading thread. Empty: weights are not scrubbed here.
  std::function<weight_scrub(std::shared_ptr<const engine::model>)> make_scrub;
  /// Why a model cannot be served any more (the process that holds its weights ended); nothing while it can.
  /// Never blocks. Empty: it always can.
  std::function<std::optional<std::string>(const engine::model&)> model_lost;
  /// Gives the memory of a model's weights back now, also where somebody still has a pointer to the model;
  /// its engines end, and no other can be created. May block for some milliseconds. Empty: the memory goes
  /// with the last pointer.
  std::function<void(const engine::model&)> unload;
  /// Each engine has weights of its own (copy-on-write): bad ones may be cured by another engine.
  bool own_weights = false;
  /// Of every model, for memory and CPU figures; any thread. Empty: none.
  std::function<std::vector<model_processes>()> processes;
};

/// engine::load_model, engine::generation_loop and engine::weight_scrubber, in this process. `faults`:
/// engines cause those of engine_faults.hpp when told to.
inference_backend cpu_backend(bool faults = false);

}  // namespace bitnet::actors
