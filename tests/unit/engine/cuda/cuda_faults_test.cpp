// What the engine makes of a device that fails; on the emulated device, which fails on demand.

#include "engine/cuda/cuda_pass.hpp"
#include "engine/generation.hpp"
#include "tests/unit/engine/generation_fixture.hpp"

#include <cuda_runtime.h>

#include <thread>

namespace {

using namespace bitnet;
using cuda_emulation::injected;
using engine::cuda::choose_devices;
using kernels::cuda::device_list;

std::shared_ptr<engine::compute_device> emulated(const engine::cuda::cuda_options& options = {}) {
  return engine::cuda::make_cuda_device(kernels::cuda::list_devices().devices.front(), options);
}

engine::generation_options on_device(const engine::cuda::cuda_options& options = {}) {
  engine::generation_options o;
  o.device = emulated(options);
  o.threads = 1;
  o.max_sequences = 2;
  o.prefill_chunk = 8;
  o.kv_cache_bytes = 10 * engine::kv_cache_block_bytes(tests::small_config());
  return o;
}

device_list devices(std::initializer_list<std::pair<int, int>> computes) {
  device_list list;
  for (const auto& [major, minor] : computes)
    list.devices.push_back({.index = static_cast<int>(list.devices.size()),
                            .name = "GPU",
                            .compute_major = major,
                            .compute_minor = minor});
  return list;
}

std::vector<int> indices(std::string_view wanted, std::initializer_list<std::pair<int, int>> computes) {
  std::vector<int> found;
  for (const auto& device : choose_devices(wanted, devices(computes)).devices) found.push_back(device.index);
  return found;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cuda_faults)

BOOST_AUTO_TEST_CASE(too_little_device_memory_refuses_the_engine) {
  injected().next_call = cudaErrorMemoryAllocation;
  const auto refused = engine::generation_loop::create(tests::shared_random_model(), on_device());
  BOOST_REQUIRE(!refused.has_value());
  BOOST_TEST((refused.error().code == engine::error_code::out_of_memory));
  BOOST_TEST(refused.error().message.find("engine.device=cpu") != std::string::npos);
  BOOST_TEST(engine::generation_loop::create(tests::shared_random_model(), on_device()).has_value());
}

BOOST_AUTO_TEST_CASE(too_little_left_for_the_cache_refuses_the_engine) {
  auto options = on_device();
  options.kv_cache_bytes = 0;
  injected().free_bytes = 1000;
  const auto refused = engine::generation_loop::create(tests::shared_random_model(), options);
  injected().free_bytes = std::size_t{4} << 30;
  BOOST_REQUIRE(!refused.has_value());
  BOOST_TEST((refused.error().code == engine::error_code::out_of_memory));
}

BOOST_AUTO_TEST_CASE(a_sticky_error_ends_the_engine_with_an_error_of_its_own) {
  const auto loop = tests::make_loop(on_device());
  BOOST_REQUIRE(loop->submit(tests::request_of(1, 5, 4)).has_value());
  injected().next_call = cudaErrorIllegalAddress;
  BOOST_CHECK_THROW(loop->step(), engine::device_lost);
}

BOOST_AUTO_TEST_CASE(a_kernel_that_hangs_is_given_up_after_the_cancellation) {
  const auto loop = tests::make_loop(on_device({.hang_limit = std::chrono::milliseconds(20)}));
  BOOST_REQUIRE(loop->submit(tests::request_of(1, 5, 4)).has_value());
  injected().hangs = true;
  std::thread supervisor([&] {
    while (loop->progress().step.load() == 0) std::this_thread::yield();
    loop->progress().cancel = true;
  });
  BOOST_CHECK_THROW(loop->step(), engine::device_lost);
  supervisor.join();
  injected().hangs = false;
}

BOOST_AUTO_TEST_CASE(steps_take_no_memory_and_decode_steps_replay_a_recording) {
  const auto loop = tests::make_loop(on_device());
  BOOST_REQUIRE(loop->submit(tests::request_of(1, 5, 20)).has_value());
  loop->step();
  loop->step();  // the first decode step of its shape is launched kernel by kernel
  const auto allocations = injected().allocations;
  const auto replays = injected().graph_launches;
  for (int i = 0; i < 10; ++i) loop->step();
  BOOST_TEST(injected().allocations == allocations);
  BOOST_TEST(injected().graph_launches == replays + 10);
}

BOOST_AUTO_TEST_CASE(without_memory_for_a_recording_steps_are_launched_kernel_by_kernel) {
  const auto loop = tests::make_loop(on_device());
  BOOST_REQUIRE(loop->submit(tests::request_of(1, 5, 20)).has_value());
  loop->step();
  loop->step();
  const auto replays = injected().graph_launches;
  injected().next_call = cudaErrorMemoryAllocation;
  BOOST_CHECK_NO_THROW(loop->step());
  BOOST_TEST(injected().next_call == 0);
  BOOST_TEST(injected().graph_launches == replays);
  BOOST_CHECK_NO_THROW(loop->step());  // there is memory again
  BOOST_TEST(injected().graph_launches == replays + 1);
}

BOOST_AUTO_TEST_CASE(the_device_is_chosen_by_what_is_wanted_and_what_is_there) {
  const auto none = device_list{{}, "no driver"};
  BOOST_TEST(choose_devices("cpu", devices({{9, 0}})).devices.empty());
  BOOST_TEST(indices("auto", {{9, 0}}) == std::vector<int>{0});
  // Every usable one, unless one is named.
  BOOST_TEST(indices("auto", {{9, 0}, {8, 0}, {7, 0}}) == (std::vector<int>{0, 1}));
  BOOST_TEST(indices("cuda", {{7, 0}, {8, 0}, {7, 5}}) == (std::vector<int>{1, 2}));
  BOOST_TEST(indices("cuda:1", {{9, 0}, {8, 0}}) == std::vector<int>{1});

  const auto fallen_back = choose_devices("auto", none);
  BOOST_TEST(fallen_back.devices.empty());
  BOOST_TEST(!fallen_back.refused);
  BOOST_TEST(fallen_back.reason == "no CUDA device: no driver");
  const auto old = choose_devices("auto", devices({{6, 1}}));
  BOOST_TEST(!old.refused);
  BOOST_TEST(old.reason.find("7.5 is the least") != std::string::npos);

  BOOST_TEST(choose_devices("cuda", none).refused);
  BOOST_TEST(choose_devices("cuda:3", devices({{9, 0}})).refused);
  BOOST_TEST(choose_devices("cuda:3", devices({{9, 0}})).reason ==
             "there is no device 3: the driver shows 1");
  BOOST_TEST(choose_devices("cuda:0", devices({{6, 1}})).refused);
}

BOOST_AUTO_TEST_SUITE_END()
