#pragma once

#include "actors/interfaces.hpp"
#include "actors/introspection/instrumented.hpp"
#include "actors/probes/process.hpp"
#include "actors/process_watch.hpp"

#include <chrono>
#include <functional>
#include <optional>

namespace bitnet::actors {

struct process_supervisor_options {
  aggregator_actor aggregator;
  std::chrono::milliseconds period{1000};
  process_watch_options watch;
  std::function<process_reading()> measure;  ///< called on the supervisor's thread; must not be empty
};

struct process_supervisor_state {
  static inline const char* name = "process-supervisor";

  process_supervisor_actor::pointer self;
  process_supervisor_options options;
  std::optional<process_watch> watch;

  explicit process_supervisor_state(process_supervisor_actor::pointer owner) : self(owner) {}
  void tick();
};

process_supervisor_actor::behavior_type process_supervisor(
    instrumented_pointer<process_supervisor_actor, process_supervisor_state> self,
    process_supervisor_options options);

}  // namespace bitnet::actors
