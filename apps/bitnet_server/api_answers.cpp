#include "apps/bitnet_server/api_answers.hpp"

#include <fmt/format.h>

namespace bitnet::apps {

namespace openai = http::openai;

namespace {

openai::api_error make(unsigned status, std::string_view type, std::string_view code, std::string message) {
  openai::api_error e;
  e.status = status;
  e.type = type;
  e.code = std::string{code};
  e.message = std::move(message);
  return e;
}

}  // namespace

openai::api_error to_api_error(const actors::failure& failure) {
  using actors::error_code;
  switch (failure.code) {
    case error_code::invalid_request:
      return make(400, "invalid_request_error", "invalid_value", failure.message);
    case error_code::prompt_too_long:
      return make(400, "invalid_request_error", "context_length_exceeded", failure.message);
    case error_code::queue_full:
    case error_code::overloaded:
      return make(429, "unavailable_error", "overloaded", failure.message);
    case error_code::out_of_kv_cache:
    case error_code::out_of_memory:
    case error_code::draining:
    case error_code::no_worker:
    case error_code::worker_lost:
      return make(503, "unavailable_error", actors::to_string(failure.code), failure.message);
    case error_code::none:
    case error_code::file_not_found:
    case error_code::file_malformed:
    case error_code::unsupported_model:
    case error_code::internal:
    case error_code::request_quarantined:
    case error_code::models_fixed:
    case error_code::path_not_allowed:
    case error_code::change_in_progress:
    case error_code::model_not_found:
      return make(500, "server_error", actors::to_string(failure.code), failure.message);
  }
  return make(500, "server_error", "internal", failure.message);
}

openai::api_error no_model_yet() {
  return make(503, "unavailable_error", "no_model", "the model is not loaded; /health says why");
}

openai::api_error deadline_exceeded() {
  return make(408, "timeout_error", "deadline_exceeded", "the request was not finished within its timeout");
}

std::optional<openai::api_error> check_model_name(std::string_view name, const engine::model& model) {
  if (name.empty() || name == model.id) return std::nullopt;
  return openai::model_not_found(name);
}

void respond_json(http::response_writer& writer, std::string body) {
  writer.respond(200, {{"Content-Type", "application/json"}}, std::move(body));
}

void respond_error(http::response_writer& writer, const openai::api_error& error,
                   std::chrono::seconds retry_after) {
  http::header_list headers{{"Content-Type", "application/json"}};
  if (error.status == 429 || error.status == 503)
    headers.emplace_back("Retry-After", std::to_string(retry_after.count()));
  if (error.code == actors::to_string(actors::error_code::request_quarantined))
    headers.emplace_back("x-should-retry", "false");  // OpenAI's own clients try a 500 again
  if (error.status == 408) headers.emplace_back("x-should-retry", "false");
  writer.respond(error.status, std::move(headers), openai::render_error(error));
}

}  // namespace bitnet::apps
