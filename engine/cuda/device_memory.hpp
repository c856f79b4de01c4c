#pragma once

#include "kernels/cuda/runtime.hpp"

#include <cstddef>
#include <vector>

namespace bitnet::engine::cuda {

/// All device memory of one pass: given back together, or, where the device is lost, left alone together.
class device_memory {
 public:
  /// Zeroed, aligned to 256 bytes. Throws kernels::cuda::device_error.
  template <class T>
  T* take(std::size_t count) {
    buffers_.emplace_back(count * sizeof(T));
    return buffers_.back().as<T>();
  }
  void abandon() noexcept {
    for (auto& buffer : buffers_) buffer.abandon();
  }

 private:
  std::vector<kernels::cuda::device_buffer> buffers_;
};

}  // namespace bitnet::engine::cuda
