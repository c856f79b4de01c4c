#include "actors/cpu_wait.hpp"

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <fstream>
#include <thread>
#include <vector>

using namespace bitnet::actors;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(cpu_waits)

BOOST_AUTO_TEST_CASE(threads_that_have_to_share_a_cpu_wait_for_it) {
  std::uint64_t ran = 0;
  std::uint64_t waited = 0;
  if (!(std::ifstream("/proc/self/schedstat") >> ran >> waited)) {
    BOOST_TEST(threads_cpu_wait() == 0ns);  // this kernel does not tell
    return;
  }
  const auto before = threads_cpu_wait();
  std::atomic<bool> stop{false};
  std::vector<std::thread> crowd;
  for (unsigned i = 0; i < 2 * std::thread::hardware_concurrency() + 2; ++i)
    crowd.emplace_back([&stop] {
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (threads_cpu_wait() < before + 20ms && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(5ms);
  BOOST_TEST((threads_cpu_wait() >= before + 20ms));
  stop = true;
  for (auto& t : crowd) t.join();
}

BOOST_AUTO_TEST_SUITE_END()
