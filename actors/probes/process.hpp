#pragma once

#include <chrono>
#include <cstddef>

namespace bitnet::actors {

/// CPU time that all threads of this process have used, user and system. Never blocks.
std::chrono::nanoseconds process_cpu_time() noexcept;

/// CPUs in this process's affinity mask, at least 1.
std::size_t affinity_cpu_count() noexcept;

}  // namespace bitnet::actors
