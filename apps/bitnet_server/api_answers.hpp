#pragma once

#include "actors/error.hpp"
#include "engine/model.hpp"
#include "http/openai/api_error.hpp"
#include "http/ports.hpp"

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

namespace bitnet::apps {

/// What a client is told when an actor refuses or a stream breaks.
http::openai::api_error to_api_error(const actors::failure& failure);

/// 503: no model is loaded (yet).
http::openai::api_error no_model_yet();

/// 408: the time that the request set itself is over. Clients must not simply try again.
http::openai::api_error deadline_exceeded();

/// Nothing where `name` is empty or names `model`.
std::optional<http::openai::api_error> check_model_name(std::string_view name, const engine::model& model);

void respond_json(http::response_writer& writer, std::string body);

/// The error object with its status; says when to try again where that may help.
void respond_error(http::response_writer& writer, const http::openai::api_error& error,
                   std::chrono::seconds retry_after = std::chrono::seconds{1});

}  // namespace bitnet::apps
