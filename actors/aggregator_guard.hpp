#pragma once

#include "actors/aggregator.hpp"
#include "actors/interfaces.hpp"
#include "actors/restart_policy.hpp"

#include <string>
#include <utility>
#include <vector>

namespace bitnet::actors {

struct aggregator_guard_options {
  aggregator_options aggregator;
  restart_limits restarts;
};

struct aggregator_guard_state {
  static inline const char* name = "aggregator-guard";

  aggregator_actor::pointer self;
  aggregator_guard_options options;
  aggregator_actor child;
  std::uint64_t incarnation = 0;  ///< of the child
  restart_policy policy;
  std::vector<std::pair<caf::actor, std::string>> watched;  ///< told to each incarnation

  explicit aggregator_guard_state(aggregator_actor::pointer owner) : self(owner) {}
  ~aggregator_guard_state();
  void start_child();
  void on_down(const caf::down_msg& down);
};

/// The address that everybody keeps of the aggregator: passes all on to it, and starts it again when it ends.
/// What it knows (aggregation) outlives it, so that a restart forgets no report and no history. Between its
/// end and its restart, and for good where restarts are too many, the snapshot goes stale, and every probe
/// says so; one that hangs is never replaced, because it may still publish.
aggregator_actor::behavior_type aggregator_guard(
    instrumented_pointer<aggregator_actor, aggregator_guard_state> self, aggregator_guard_options options);

}  // namespace bitnet::actors
