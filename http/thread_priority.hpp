#pragma once

#include <cstdint>

namespace bitnet::http {

/// How soon an HTTP thread gets a core that others use.
enum class thread_priority : std::uint8_t {
  automatic,  ///< the best of the below that the system allows
  prompt,     ///< the usual share of the CPU in the shortest slices: needs no privilege, and Linux 6.12
  normal      ///< as every thread
};

/// What is in force.
enum class effective_priority : std::uint8_t {
  real_time,  ///< SCHED_RR 1: before every thread of ordinary priority
  prompt,
  normal
};

/// Applies to the calling thread. Never fails: takes the next best. Threads that this one starts are
/// ordinary.
effective_priority apply(thread_priority wanted) noexcept;

}  // namespace bitnet::http
