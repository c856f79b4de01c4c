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
  std::shared_ptr<engine::compute_device> device;  ///< null: the CPU
  std::shared_ptr<actors::device_loss> loss;
  std::optional<actors::gpu_options> gpu;  ///< what is said of GPUs; nothing in builds without CUDA
};

/// `wanted`: auto, cpu, cuda or cuda:N. Fails with one sentence where a GPU is demanded that cannot be had.
tl::expected<device_set, std::string> find_devices(const std::string& wanted);

}  // namespace bitnet::apps
