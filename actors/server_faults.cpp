#include "actors/server_faults.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <new>
#include <thread>
#include <utility>
#include <vector>

namespace bitnet::actors {

namespace {

constexpr double longest = 600;  // seconds that a fault may last

/// Runs `after` when the fault is over. Nothing joins the thread: it touches only what it owns.
void later(double seconds, std::function<void()> after) {
  std::thread([seconds, after = std::move(after)] {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    after();
  }).detach();
}

/// `name` with its default and range, then `act` with its value.
fault_handler with_number(std::string name, double otherwise, double min, double max,
                          std::function<fault_outcome(double)> act) {
  return [=](const fault_request& request) -> fault_outcome {
    const auto value = request.number(name, otherwise, min, max);
    if (!value) return tl::unexpected(value.error());
    return act(*value);
  };
}

fault_outcome exhaust_files(double seconds) {
  auto held = std::make_shared<std::vector<int>>();
  // The thread that lets go of them must be there before the last descriptor is gone.
  auto begun = std::make_shared<std::atomic<bool>>(false);
  later(seconds, [held, begun] {
    while (!begun->load()) std::this_thread::yield();
    for (const int descriptor : *held) ::close(descriptor);
  });
  int problem = 0;
  while (true) {
    const int descriptor = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
      problem = errno;
      break;
    }
    held->push_back(descriptor);
  }
  const auto count = held->size();
  begun->store(true);
  return fmt::format("holds {} descriptors for {} s; the next one failed: {}", count, seconds,
                     std::strerror(problem));
}

/// Takes more and more, and gives all back at the end.
fault_outcome leak_memory(double mib_per_second, double seconds) {
  std::thread([mib_per_second, seconds] {
    constexpr auto tick = std::chrono::milliseconds(250);
    const auto bytes = static_cast<std::size_t>(mib_per_second * 0.25 * (1 << 20));
    std::vector<std::unique_ptr<char[]>> held;
    for (double left = seconds; left > 0; left -= 0.25) {
      std::this_thread::sleep_for(tick);
      std::unique_ptr<char[]> memory(new (std::nothrow) char[bytes]);
      if (!memory) continue;
      std::memset(memory.get(), 1, bytes);
      held.push_back(std::move(memory));
    }
  }).detach();
  return fmt::format("leaks {} MiB a second for {} s", mib_per_second, seconds);
}

fault_outcome take_memory(double mib, double seconds) {
  constexpr std::size_t block = std::size_t{1} << 20;
  auto held = std::make_shared<std::vector<std::unique_ptr<char[]>>>();
  for (double i = 0; i < mib; ++i) {
    std::unique_ptr<char[]> memory(new (std::nothrow) char[block]);
    if (!memory) break;
    std::memset(memory.get(), 1, block);
    held->push_back(std::move(memory));
  }
  const auto count = held->size();
  later(seconds, [held]() mutable { held->clear(); });
  return fmt::format("holds {} MiB for {} s", count, seconds);
}

}  // namespace

void declare_server_faults(fault_injection& faults, aggregator_actor aggregator,
                           std::shared_ptr<std::atomic<std::int64_t>> clock_offset_ns) {
  faults.declare({"aggregator-stall", "the aggregator hangs for seconds=5 (0.1 to 600)",
                  with_number("seconds", 5, 0.1, longest, [aggregator](double seconds) -> fault_outcome {
                    caf::anon_send(aggregator, stop_atom_v, seconds);
                    return fmt::format("the aggregator hangs for {} s", seconds);
                  })});
  faults.declare({"aggregator-crash", "the aggregator ends as after a bug",
                  [aggregator](const fault_request&) -> fault_outcome {
                    caf::anon_send(aggregator, stop_atom_v, 0.0);
                    return "the aggregator ends";
                  }});
  faults.declare({"file-exhaustion", "no descriptor is left for seconds=10 (0.1 to 600)",
                  with_number("seconds", 10, 0.1, longest, exhaust_files)});
  faults.declare({"memory-pressure", "mib=256 (1 to 1048576) are taken for seconds=10 (0.1 to 600)",
                  [](const fault_request& request) -> fault_outcome {
                    const auto mib = request.number("mib", 256, 1, 1048576);
                    if (!mib) return tl::unexpected(mib.error());
                    const auto seconds = request.number("seconds", 10, 0.1, longest);
                    if (!seconds) return tl::unexpected(seconds.error());
                    return take_memory(*mib, *seconds);
                  }});
  faults.declare({"memory-leak", "mib=1 (0.001 to 1024) a second are lost for seconds=60 (0.1 to 3600)",
                  [](const fault_request& request) -> fault_outcome {
                    const auto mib = request.number("mib", 1, 0.001, 1024);
                    if (!mib) return tl::unexpected(mib.error());
                    const auto seconds = request.number("seconds", 60, 0.1, 3600);
                    if (!seconds) return tl::unexpected(seconds.error());
                    return leak_memory(*mib, *seconds);
                  }});
  faults.declare({"clock-jump", "the wall clock that the checks read jumps by seconds=3600 (-1e6 to 1e6)",
                  with_number("seconds", 3600, -1e6, 1e6, [clock_offset_ns](double seconds) -> fault_outcome {
                    clock_offset_ns->fetch_add(static_cast<std::int64_t>(seconds * 1e9));
                    return fmt::format("the wall clock jumps by {} s", seconds);
                  })});
}

}  // namespace bitnet::actors
