#pragma once

#include "actors/fault_injection.hpp"
#include "actors/interfaces.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

namespace bitnet::actors {

/// Faults of the server's own process, apart from its engine. Declares them in `faults`: aggregator-stall,
/// aggregator-crash, file-exhaustion, memory-pressure, memory-leak, clock-jump.
///
/// `clock_offset_ns`: what the process supervisor adds to the wall clock that it reads (a process cannot have
/// a clock of its own).
void declare_server_faults(fault_injection& faults, aggregator_actor aggregator,
                           std::shared_ptr<std::atomic<std::int64_t>> clock_offset_ns);

}  // namespace bitnet::actors
