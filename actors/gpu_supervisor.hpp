#pragma once

#include "actors/gpu_watch.hpp"
#include "actors/interfaces.hpp"
#include "actors/probes/gpu_monitor.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace bitnet::actors {

/// What the server says of GPUs; absent from builds without CUDA.
struct gpu_options {
  std::shared_ptr<const gpu_monitor> monitor;
  gpu_use use;
  gpu_watch_options watch;
  /// Why each device in use is lost to this process, empty where it is not (device_backend.hpp); empty: none
  /// ever is.
  std::function<std::vector<std::string>()> lost;
};

struct gpu_supervisor_options {
  gpu_options gpu;
  aggregator_actor aggregator;
  std::chrono::milliseconds period{1000};
};

struct gpu_supervisor_state {
  static inline const char* name = "gpu-supervisor";

  gpu_supervisor_actor::pointer self;
  gpu_supervisor_options options;
  std::optional<gpu_watch> watch;

  explicit gpu_supervisor_state(gpu_supervisor_actor::pointer owner) : self(owner) {}
  void tick();
};

/// Reports the component "gpu"; never blocks, whatever the driver does.
gpu_supervisor_actor::behavior_type gpu_supervisor(
    gpu_supervisor_actor::stateful_pointer<gpu_supervisor_state> self, gpu_supervisor_options options);

}  // namespace bitnet::actors
