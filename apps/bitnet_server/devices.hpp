#pragma once

#include "actors/device_backend.hpp"
#include "actors/gpu_supervisor.hpp"
#include "engine/compute_device.hpp"

#include <tl/expected.hpp>

#include <memory>
#include <optional>
#include <string>

namespace bitnet::apps {

/// What engine.device comes to on this machine.
struct device_set {
  std::string name;  ///< "cuda:N", for engines in other processes; empty: the CPU
  std::shared_ptr<engine::compute_device> device;  ///< for engines in this one, else null
  std::shared_ptr<actors::device_loss> loss;       ///< of `device`
  std::optional<actors::gpu_options> gpu;          ///< what is said of GPUs; nothing in builds without CUDA
};

/// `wanted`: auto, cpu, cuda or cuda:N. Fails with one sentence where a GPU is demanded that cannot be had.
/// Only with `in_this_process` does this process itself compute on the device: a context that an error has
/// spoilt cannot be mended, and would take the server with it.
tl::expected<device_set, std::string> find_devices(const std::string& wanted, bool in_this_process);

}  // namespace bitnet::apps
