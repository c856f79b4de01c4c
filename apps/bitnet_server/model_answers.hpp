#pragma once

#include "actors/interfaces.hpp"
#include "engine/model.hpp"
#include "http/openai/response.hpp"
#include "http/ports.hpp"

#include <memory>
#include <string>

namespace bitnet::apps {

/// A model as GET /v1/models shows it.
http::openai::model_entry describe(const engine::model& model);

/// The actor that answers POST /v1/models/load: with the model once it serves, with 202 where that takes
/// longer than the client wants to wait, and with the reason where it does not come to that. The load goes on
/// when the client leaves. `models` may be invalid: the server has just begun to start.
void answer_load(caf::event_based_actor* self, const actors::model_supervisor_actor& models,
                 const std::string& body, const std::shared_ptr<http::response_writer>& writer);

/// The actor that answers DELETE /v1/models/{id}.
void answer_unload(caf::event_based_actor* self, const actors::model_supervisor_actor& models,
                   const std::string& id, const std::shared_ptr<http::response_writer>& writer);

}  // namespace bitnet::apps
