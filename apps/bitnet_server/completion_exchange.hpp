#pragma once

#include "actors/interfaces.hpp"
#include "actors/introspection/instrumented.hpp"
#include "apps/bitnet_server/completion_answer.hpp"

#include <memory>
#include <string>

namespace bitnet::apps {

/// A token sink that also takes its own reminders: to keep a silent stream open, and to see whether the
/// request's time is over.
using exchange_actor = actors::token_sink_actor::extend<caf::reacts_to<actors::tick_atom>>;

/// The actor that answers one completion request: submits its choices to the router, takes their tokens and
/// writes the answer. It ends with the answer, or by an exit message when the client is gone; the router,
/// which watches it, then stops its sequences. Of a worker that is lost it sees a pause.
exchange_actor::behavior_type completion_exchange(
    actors::instrumented_pointer<exchange_actor, completion_answer> self,
    std::shared_ptr<api_context> context, completion_call call,
    std::shared_ptr<http::response_writer> writer);

}  // namespace bitnet::apps
