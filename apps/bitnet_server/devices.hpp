#pragma once

#include "actors/device_backend.hpp"
#include "actors/gpu_supervisor.hpp"

#include <tl/expected.hpp>

#include <optional>
#include <string>
#include <vector>

namespace bitnet::apps {

/// What engine.device comes to on this machine.
struct device_set {
  std::vector<std::string> names;              ///< "cuda:N": an engine on each; empty: one on the CPU
  std::vector<actors::engine_device> in_here;  ///< the same, for engines in this process; else empty
  std::optional<actors::gpu_options> gpu;      ///< what is said of GPUs; nothing in builds without CUDA
};

/// `wanted`: auto, cpu, cuda or cuda:N. Fails with one sentence where a GPU is demanded that cannot be had.
/// Only with `in_this_process` does this process itself compute on devices: a context that an error has
/// spoilt cannot be mended, and would take the server with it.
tl::expected<device_set, std::string> find_devices(const std::string& wanted, bool in_this_process);

}  // namespace bitnet::apps
