#include "actors/probes/process.hpp"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>

namespace bitnet::actors {

std::chrono::nanoseconds process_cpu_time() noexcept {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return std::chrono::nanoseconds(0);
  auto duration = [](const timeval& t) {
    return std::chrono::seconds(t.tv_sec) + std::chrono::microseconds(t.tv_usec);
  };
  return duration(usage.ru_utime) + duration(usage.ru_stime);
}

std::size_t affinity_cpu_count() noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
}

}  // namespace bitnet::actors
