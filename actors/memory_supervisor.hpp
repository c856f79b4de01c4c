#pragma once

#include "actors/hysteresis.hpp"
#include "actors/interfaces.hpp"
#include "actors/introspection/instrumented.hpp"
#include "actors/memory_growth.hpp"
#include "actors/probes/memory.hpp"

#include <chrono>
#include <functional>
#include <optional>

namespace bitnet::actors {

struct memory_supervisor_options {
  aggregator_actor aggregator;
  double degraded_percent = 80;
  double unhealthy_percent = 90;
  double clearance_percent = 3;  ///< a threshold clears this far below where it set
  std::chrono::milliseconds period{1000};
  double pressure_percent = 20;  ///< every task waited for memory in this part of the last 10 s: degraded
  memory_growth_options growth;
  /// Injected in tests.
  std::function<std::optional<memory_sample>()> measure = [] { return measure_memory(); };
  std::function<double()> measure_pressure = [] { return measure_memory_pressure(); };
};

struct memory_supervisor_state {
  static inline const char* name = "memory-supervisor";

  memory_supervisor_actor::pointer self;
  memory_supervisor_options options;
  hysteresis degraded{80, 77};
  hysteresis unhealthy{90, 87};
  hysteresis pressure{20, 10};
  memory_growth growth;

  explicit memory_supervisor_state(memory_supervisor_actor::pointer owner) : self(owner) {}
  void tick();

 private:
  component_report judge(const std::optional<memory_sample>& sample);
  void judge_trend(const memory_sample& sample, component_report& report);
};

memory_supervisor_actor::behavior_type memory_supervisor(
    instrumented_pointer<memory_supervisor_actor, memory_supervisor_state> self,
    memory_supervisor_options options);

}  // namespace bitnet::actors
