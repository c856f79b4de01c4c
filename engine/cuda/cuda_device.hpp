#pragma once

#include "engine/compute_device.hpp"
#include "kernels/cuda/runtime.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::engine::cuda {

/// What `engine.device` comes to on a machine.
struct device_choice {
  std::vector<kernels::cuda::device_info> devices;  ///< an engine on each; empty: one on the CPU
  std::string reason;                               ///< why no GPU, where one was possible: one clause
  bool refused = false;                             ///< a GPU was demanded and there is none: `reason`
};

/// `wanted`: auto, cpu, cuda or cuda:N. auto and cuda take every device with compute capability 7.5, cuda:N
/// takes that one.
device_choice choose_devices(std::string_view wanted, const kernels::cuda::device_list& found);

struct cuda_options {
  /// For kernels to end after a cancellation; those that have not by then hang.
  std::chrono::milliseconds hang_limit{5000};
  std::size_t score_bytes = std::size_t{64} << 20;  ///< scratch of attention
};

/// The device as the engine takes it. Makes its context when the first pass is created.
std::shared_ptr<compute_device> make_cuda_device(const kernels::cuda::device_info& device,
                                                 const cuda_options& options = {});

/// The device of this name, "cuda:N", or why it cannot be had.
result<std::shared_ptr<compute_device>> open_device(const std::string& name);

}  // namespace bitnet::engine::cuda
