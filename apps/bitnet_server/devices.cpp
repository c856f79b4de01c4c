#include "apps/bitnet_server/devices.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#ifdef BITNET_HAVE_CUDA
#include "actors/probes/nvml.hpp"
#include "engine/cuda/cuda_device.hpp"
#include "kernels/cuda/canary.hpp"
#endif

namespace bitnet::apps {

#ifdef BITNET_HAVE_CUDA

namespace {

/// `loss` null: engines compute in processes of their own, and their canary proves the device.
actors::gpu_options watch(const engine::cuda::device_choice& choice, bool wanted,
                          std::shared_ptr<actors::device_loss> loss) {
  actors::gpu_monitor_options m;
  m.read = [library = std::make_shared<actors::nvml>()] { return library->read(); };
  actors::gpu_options gpu;
  gpu.use.wanted = wanted;
  gpu.use.why_not = choice.reason;
  if (choice.device) {
    gpu.use.pci_bus_id = choice.device->pci_bus_id;
    if (loss) m.canary = [index = choice.device->index] { return kernels::cuda::run_canary(index); };
  }
  gpu.monitor = std::make_shared<actors::gpu_monitor>(std::move(m));
  if (loss) gpu.lost = [loss = std::move(loss)] { return loss->why(); };
  return gpu;
}

}  // namespace

tl::expected<device_set, std::string> find_devices(const std::string& wanted, bool in_this_process) {
  const bool may_use = wanted != "cpu";
  const auto found = may_use ? kernels::cuda::list_devices() : kernels::cuda::device_list{};
  const auto choice = engine::cuda::choose_device(wanted, found);
  if (choice.refused)
    return tl::unexpected(
        fmt::format("engine.device: {} cannot be had: {}; use auto or cpu", wanted, choice.reason));
  device_set devices;
  if (in_this_process) devices.loss = std::make_shared<actors::device_loss>();
  devices.gpu = watch(choice, may_use, devices.loss);
  if (choice.device) {
    const auto device = engine::cuda::make_cuda_device(*choice.device);
    devices.name = fmt::format("cuda:{}", choice.device->index);
    if (in_this_process) devices.device = device;
    spdlog::info("the engine runs on {}", device->name());
  } else if (may_use) {
    spdlog::warn("{}; the engine runs on the CPU", choice.reason);
  }
  return devices;
}

#else

tl::expected<device_set, std::string> find_devices(const std::string& wanted, bool) {
  if (wanted.starts_with("cuda"))
    return tl::unexpected(
        fmt::format("engine.device: this build has no CUDA, so not {}; use auto or cpu", wanted));
  return device_set{};
}

#endif

}  // namespace bitnet::apps
