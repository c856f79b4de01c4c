#pragma once

#include "actors/aggregation.hpp"
#include "actors/interfaces.hpp"
#include "actors/introspection/instrumented.hpp"

#include <chrono>
#include <map>
#include <string>

namespace bitnet::actors {

struct aggregator_options {
  std::shared_ptr<aggregation> state;  ///< the actor's own from its start on
  /// Below the 250 ms that readers are promised, so that a late timer does not break the promise.
  std::chrono::milliseconds publish_period{200};
};

struct aggregator_state {
  static inline const char* name = "aggregator";

  aggregator_actor::pointer self;
  aggregator_options options;
  std::map<caf::actor_addr, std::string> watched;

  explicit aggregator_state(aggregator_actor::pointer owner) : self(owner) {}
  void publish();
};

aggregator_actor::behavior_type aggregator(instrumented_pointer<aggregator_actor, aggregator_state> self,
                                           aggregator_options options);

}  // namespace bitnet::actors
