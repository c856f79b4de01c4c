#pragma once

#include <chrono>

namespace bitnet::actors {

/// For how long the threads of this process have waited for a CPU although they could have run: the sum over
/// those that live now, since their start. 0 where the kernel does not tell. Costs some microseconds a
/// thread.
std::chrono::nanoseconds threads_cpu_wait() noexcept;

}  // namespace bitnet::actors
