#pragma once

#include <caf/actor_clock.hpp>
#include <caf/local_actor.hpp>
#include <caf/message_id.hpp>

namespace bitnet::actors {

/// Lets go of the time-out of a request that has been answered (`response_handle::id()`), from its handlers.
/// CAF 0.17 keeps it, and what is left of the actor that asked, until it is due: with thousands of requests a
/// second and time-outs of minutes that is memory without a bound.
inline void forget_timeout(caf::local_actor& self, caf::message_id answered) {
  self.clock().cancel_request_timeout(&self, answered);
}

}  // namespace bitnet::actors
