// The emulation's own behaviour, without which a green test of a kernel would mean nothing, and the
// classification of errors.

#include "kernels/cuda/runtime.hpp"

#include "kernels/cuda/ptx.cuh"

#include <boost/test/unit_test.hpp>

#include <cuda_runtime.h>

#include <vector>

namespace {

using namespace bitnet::kernels::cuda;

/// Reverses 64 values through shared memory, with or without the barrier between writing and reading.
void reverse(int* values, bool synchronises) {
  __shared__ int shared[64];
  shared[threadIdx.x] = values[threadIdx.x];
  if (synchronises) __syncthreads();
  values[threadIdx.x] = shared[63 - threadIdx.x];
}

bool reverses(bool synchronises) {
  bool right = true;
  for (int launch_number = 0; launch_number < 2; ++launch_number) {
    std::vector<int> values(64);
    for (int i = 0; i < 64; ++i) values[static_cast<std::size_t>(i)] = 100 * launch_number + i;
    launch(reverse, dim3(1), dim3(64), nullptr, values.data(), synchronises);
    for (int i = 0; i < 64; ++i)
      right = right && values[static_cast<std::size_t>(i)] == 100 * launch_number + 63 - i;
  }
  return right;
}

void copy_without_waiting(const uint4* from, uint4* to, bool waits) {
  __shared__ uint4 shared[1];
  shared[0] = {};
  copy_async(shared, from);
  commit_copies();
  if (waits) wait_for_copies<0>();
  *to = shared[0];
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cuda_emulation_itself)

BOOST_AUTO_TEST_CASE(a_missing_barrier_shows) {
  BOOST_TEST(reverses(true));
  BOOST_TEST(!reverses(false));
}

BOOST_AUTO_TEST_CASE(an_asynchronous_copy_is_not_there_before_it_was_waited_for) {
  const uint4 from{1, 2, 3, 4};
  uint4 to{};
  launch(copy_without_waiting, dim3(1), dim3(1), nullptr, &from, &to, false);
  BOOST_TEST(to.x == 0U);
  launch(copy_without_waiting, dim3(1), dim3(1), nullptr, &from, &to, true);
  BOOST_TEST(to.w == 4U);
}

BOOST_AUTO_TEST_CASE(errors_are_told_apart_by_what_they_leave) {
  BOOST_TEST((classify(cudaErrorMemoryAllocation) == fault::out_of_memory));
  for (const int code : {35, 100, 101, 209, 222, 803}) BOOST_TEST((classify(code) == fault::unusable));
  for (const int code : {214, 220, 700, 702, 710, 714, 715, 716, 717, 718, 719, 999})
    BOOST_TEST((classify(code) == fault::sticky));
  for (const int code : {1, 400}) BOOST_TEST((classify(code) == fault::other));
}

BOOST_AUTO_TEST_CASE(memory_that_cannot_be_had_is_an_error_of_its_kind) {
  cuda_emulation::injected().next_call = cudaErrorMemoryAllocation;
  BOOST_CHECK_EXCEPTION(device_buffer(64), device_error,
                        [](const device_error& e) { return e.kind() == fault::out_of_memory; });
  BOOST_CHECK_NO_THROW(device_buffer(64));
}

BOOST_AUTO_TEST_CASE(a_stream_that_is_busy_is_no_error_of_the_next_launch) {
  std::vector<int> values(64);
  stream on;
  launch(reverse, dim3(1), dim3(64), on.handle(), values.data(), true);
  BOOST_TEST(!on.finished());
  BOOST_TEST(on.finished());
  BOOST_CHECK_NO_THROW(launch(reverse, dim3(1), dim3(64), on.handle(), values.data(), true));
}

BOOST_AUTO_TEST_CASE(a_failed_call_is_no_error_of_the_next_launch) {
  std::vector<int> values(64);
  cuda_emulation::injected().next_call = cudaErrorMemoryAllocation;
  BOOST_CHECK_THROW(device_buffer(64), device_error);
  BOOST_CHECK_NO_THROW(launch(reverse, dim3(1), dim3(64), nullptr, values.data(), true));
}

BOOST_AUTO_TEST_CASE(without_a_driver_the_list_says_why) {
  cuda_emulation::injected().device_count = 0;
  const auto none = list_devices();
  cuda_emulation::injected().device_count = 2;
  const auto two = list_devices();
  cuda_emulation::injected().device_count = 1;
  BOOST_TEST(none.devices.empty());
  BOOST_TEST(none.problem == "no CUDA-capable device is detected");
  BOOST_TEST(two.devices.size() == 2U);
  BOOST_TEST(two.devices[1].pci_bus_id == "0000:02:00.0");
}

BOOST_AUTO_TEST_SUITE_END()
