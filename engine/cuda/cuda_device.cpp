#include "engine/cuda/cuda_device.hpp"

#include "engine/cuda/cuda_pass.hpp"

#include <fmt/format.h>

#include <charconv>
#include <new>
#include <optional>
#include <utility>

namespace bitnet::engine::cuda {

namespace {

constexpr int least_compute = 75;  // the oldest that the kernels are compiled for

int compute_of(const kernels::cuda::device_info& device) noexcept {
  return device.compute_major * 10 + device.compute_minor;
}

std::string too_old(const kernels::cuda::device_info& device) {
  return fmt::format("device {} ({}) has compute capability {}.{}, and 7.5 is the least", device.index,
                     device.name, device.compute_major, device.compute_minor);
}

class cuda_device final : public compute_device {
 public:
  cuda_device(kernels::cuda::device_info device, const cuda_options& options)
      : device_(std::move(device)), options_(options) {}

  std::string name() const override { return fmt::format("cuda:{} ({})", device_.index, device_.name); }

  result<std::unique_ptr<device_pass>> create_pass(const model_weights& weights,
                                                   const pass_limits& limits) override {
    try {
      return std::make_unique<cuda_pass>(weights, limits, device_.index, options_);
    } catch (const kernels::cuda::device_error& problem) {
      return refuse(problem);
    } catch (const std::bad_alloc&) {
      return fail(error_code::out_of_memory, "No host memory to pack the weights for the GPU.");
    }
  }

 private:
  tl::unexpected<error> refuse(const kernels::cuda::device_error& problem) const {
    switch (problem.kind()) {
      case kernels::cuda::fault::out_of_memory:
        return fail(error_code::out_of_memory,
                    fmt::format("{} has not enough free memory for this model ({}); free it, use a smaller "
                                "prefill chunk or batch, or run with engine.device=cpu.",
                                name(), problem.what()));
      case kernels::cuda::fault::unusable:
        return fail(error_code::internal, fmt::format("{} cannot be used ({}); check the driver, or run with "
                                                      "engine.device=cpu.",
                                                      name(), problem.what()));
      case kernels::cuda::fault::sticky:
        return fail(error_code::internal,
                    fmt::format("{} is lost to this process ({}); restart it.", name(), problem.what()));
      case kernels::cuda::fault::other:
        break;
    }
    return fail(error_code::internal, fmt::format("{} failed: {}.", name(), problem.what()));
  }

  kernels::cuda::device_info device_;
  cuda_options options_;
};

}  // namespace

device_choice choose_devices(std::string_view wanted, const kernels::cuda::device_list& found) {
  device_choice choice;
  if (wanted == "cpu") return choice;
  choice.refused = wanted != "auto";
  if (found.devices.empty()) {
    choice.reason = "no CUDA device: " + found.problem;
    return choice;
  }
  std::optional<int> index;
  if (const auto colon = wanted.find(':'); colon != std::string_view::npos) {
    int number = -1;
    std::from_chars(wanted.data() + colon + 1, wanted.data() + wanted.size(), number);
    index = number;
  }
  for (const auto& device : found.devices) {
    if (index && device.index != *index) continue;
    if (compute_of(device) < least_compute) {
      choice.reason = too_old(device);
      continue;
    }
    choice.devices.push_back(device);
  }
  if (!choice.devices.empty()) return {.devices = std::move(choice.devices), .reason = {}, .refused = false};
  if (choice.reason.empty())
    choice.reason =
        fmt::format("there is no device {}: the driver shows {}", index.value_or(0), found.devices.size());
  return choice;
}

std::shared_ptr<compute_device> make_cuda_device(const kernels::cuda::device_info& device,
                                                 const cuda_options& options) {
  return std::make_shared<cuda_device>(device, options);
}

result<std::shared_ptr<compute_device>> open_device(const std::string& name) {
  const auto choice = choose_devices(name, kernels::cuda::list_devices());
  if (!choice.devices.empty()) return make_cuda_device(choice.devices.front());
  return fail(error_code::internal,
              fmt::format("{} cannot be had any more: {}; check the driver, or run with "
                          "engine.device=cpu.",
                          name, choice.reason));
}

}  // namespace bitnet::engine::cuda
