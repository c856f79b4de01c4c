#pragma once

#include "kernels/instruction_set.hpp"

#include <cstddef>

namespace bitnet::apps::bench {

/// What this machine can do at the moment; other programs, and other guests of the same host, take their
/// share.
struct machine_limits {
  double read_bytes_per_second = 0;  ///< of 512 MiB in huge pages, prefetched, by all threads together
  double macs_per_second = 0;        ///< int8 multiply-adds on registers, by all threads; 0: not known
};

/// Measures both for about a tenth of a second with the team's threads. The instruction set tells which
/// instruction multiplies.
machine_limits measure_limits(std::size_t threads, kernels::instruction_set isa);

}  // namespace bitnet::apps::bench
