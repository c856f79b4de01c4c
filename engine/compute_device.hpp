#pragma once

#include "engine/error.hpp"
#include "engine/forward_pass.hpp"
#include "engine/weights.hpp"

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>

namespace bitnet::engine {

/// Thrown by a forward pass whose device is lost: nothing in this process can use it again. The engine ends
/// with it.
class device_lost : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A forward pass that keeps weights, keys and values in memory of its own.
class device_pass : public forward_pass {
 public:
  /// Device memory that is left for keys and values.
  virtual std::size_t memory_for_kv_bytes() = 0;
  /// Takes memory for that many blocks; once, before the first pass. Refuses with out_of_memory.
  virtual result<void> take_kv_blocks(std::size_t count) = 0;
};

/// Something other than this CPU that runs forward passes.
class compute_device {
 public:
  virtual ~compute_device() = default;
  /// For people: "cuda:0 (NVIDIA H100 PCIe)".
  virtual std::string name() const = 0;
  /// Copies the weights to the device and takes buffers; blocks for seconds. Refuses with out_of_memory, or
  /// with internal where the device does not work. `weights` must outlive the pass.
  virtual result<std::unique_ptr<device_pass>> create_pass(const model_weights& weights,
                                                           const pass_limits& limits) = 0;
};

}  // namespace bitnet::engine
