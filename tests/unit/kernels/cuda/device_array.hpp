#pragma once

#include "kernels/cuda/runtime.hpp"

#include <boost/test/unit_test.hpp>

#include <cstring>
#include <vector>

namespace bitnet::tests {

/// For BOOST_AUTO_TEST_CASE(name, *needs_device()): without a device the test is skipped, not passed.
inline boost::test_tools::assertion_result device_is_there(boost::unit_test::test_unit_id) {
  static const auto found = kernels::cuda::list_devices();
  boost::test_tools::assertion_result result(!found.devices.empty());
  result.message() << "SKIPPED: no usable CUDA device: " << found.problem;
  return result;
}
inline boost::unit_test::precondition needs_device() {
  return boost::unit_test::precondition(device_is_there);
}

/// A stream of the first device.
inline kernels::cuda::stream& test_stream() {
  kernels::cuda::use_device(0);
  static kernels::cuda::stream on;
  return on;
}

/// Values on the device.
template <class T>
class device_array {
 public:
  explicit device_array(const std::vector<T>& values) : size_(values.size()) {
    auto& on = test_stream();
    memory_ = kernels::cuda::device_buffer(size_ * sizeof(T));
    on.copy_to_device(get(), values.data(), size_ * sizeof(T));
    on.wait();
  }
  explicit device_array(std::size_t size) : device_array(std::vector<T>(size)) {}

  T* get() const noexcept { return memory_.as<T>(); }
  std::vector<T> read() const {
    std::vector<T> values(size_);
    auto& on = test_stream();
    on.copy_to_host(values.data(), get(), size_ * sizeof(T));
    on.wait();
    return values;
  }

 private:
  std::size_t size_;
  kernels::cuda::device_buffer memory_;
};

/// The index of the first element whose bits differ; the size where none does.
template <class T>
std::size_t first_difference(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return std::min(a.size(), b.size());
  std::size_t i = 0;
  while (i < a.size() && std::memcmp(&a[i], &b[i], sizeof(T)) == 0) ++i;
  return i;
}

}  // namespace bitnet::tests
