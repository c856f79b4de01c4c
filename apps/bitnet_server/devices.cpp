#include "apps/bitnet_server/devices.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

#ifdef BITNET_HAVE_CUDA
#include "actors/probes/nvml.hpp"
#include "engine/cuda/cuda_device.hpp"
#include "kernels/cuda/canary.hpp"
#endif

namespace bitnet::apps {

#ifdef BITNET_HAVE_CUDA

namespace {

std::string name_of(const kernels::cuda::device_info& device) {
  return fmt::format("cuda:{}", device.index);
}

/// `in_here`: engines of this process. Those in processes of their own prove their devices by their canaries.
actors::gpu_options watch(const engine::cuda::device_choice& choice, bool wanted,
                          const std::vector<actors::engine_device>& in_here) {
  actors::gpu_monitor_options m;
  m.read = [library = std::make_shared<actors::nvml>()] { return library->read(); };
  actors::gpu_options gpu;
  gpu.use.wanted = wanted;
  gpu.use.why_not = choice.reason;
  for (const auto& device : choice.devices) gpu.use.devices.push_back({name_of(device), device.pci_bus_id});
  if (!in_here.empty()) {
    m.canary = [devices = choice.devices] {
      std::vector<std::string> failures;
      for (const auto& device : devices)
        failures.push_back(kernels::cuda::run_canary(device.index).value_or(std::string()));
      return failures;
    };
    gpu.lost = [in_here] {
      std::vector<std::string> why;
      for (const auto& one : in_here) why.push_back(one.loss->why().value_or(std::string()));
      return why;
    };
  }
  gpu.monitor = std::make_shared<actors::gpu_monitor>(std::move(m));
  return gpu;
}

}  // namespace

tl::expected<device_set, std::string> find_devices(const std::string& wanted, bool in_this_process) {
  const bool may_use = wanted != "cpu";
  const auto found = may_use ? kernels::cuda::list_devices() : kernels::cuda::device_list{};
  const auto choice = engine::cuda::choose_devices(wanted, found);
  if (choice.refused)
    return tl::unexpected(
        fmt::format("engine.device: {} cannot be had: {}; use auto or cpu", wanted, choice.reason));
  device_set devices;
  for (const auto& one : choice.devices) {
    const auto device = engine::cuda::make_cuda_device(one);
    devices.names.push_back(name_of(one));
    if (in_this_process) devices.in_here.push_back({.name = name_of(one), .device = device});
    spdlog::info("an engine runs on {}", device->name());
  }
  if (choice.devices.empty() && may_use) spdlog::warn("{}; the engine runs on the CPU", choice.reason);
  devices.gpu = watch(choice, may_use, devices.in_here);
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
