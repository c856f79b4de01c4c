#include "actors/error.hpp"

#include <caf/all.hpp>

#include <utility>

namespace bitnet::actors {

std::string_view to_string(error_code code) noexcept {
  switch (code) {
    case error_code::none:
      return "none";
    case error_code::file_not_found:
      return "file_not_found";
    case error_code::file_malformed:
      return "file_malformed";
    case error_code::unsupported_model:
      return "unsupported_model";
    case error_code::invalid_request:
      return "invalid_request";
    case error_code::prompt_too_long:
      return "prompt_too_long";
    case error_code::out_of_kv_cache:
      return "out_of_kv_cache";
    case error_code::queue_full:
      return "queue_full";
    case error_code::out_of_memory:
      return "out_of_memory";
    case error_code::internal:
      return "internal";
    case error_code::draining:
      return "draining";
    case error_code::no_worker:
      return "no_worker";
    case error_code::worker_lost:
      return "worker_lost";
    case error_code::overloaded:
      return "overloaded";
    case error_code::request_quarantined:
      return "request_quarantined";
    case error_code::models_fixed:
      return "models_fixed";
    case error_code::path_not_allowed:
      return "path_not_allowed";
    case error_code::change_in_progress:
      return "change_in_progress";
    case error_code::model_not_found:
      return "model_not_found";
  }
  return "unknown";
}

error_code from_engine(engine::error_code code) noexcept {
  switch (code) {
    case engine::error_code::file_not_found:
      return error_code::file_not_found;
    case engine::error_code::file_malformed:
      return error_code::file_malformed;
    case engine::error_code::unsupported_model:
      return error_code::unsupported_model;
    case engine::error_code::invalid_request:
      return error_code::invalid_request;
    case engine::error_code::prompt_too_long:
      return error_code::prompt_too_long;
    case engine::error_code::out_of_kv_cache:
      return error_code::out_of_kv_cache;
    case engine::error_code::queue_full:
      return error_code::queue_full;
    case engine::error_code::out_of_memory:
      return error_code::out_of_memory;
    case engine::error_code::internal:
      return error_code::internal;
  }
  return error_code::internal;
}

caf::error make_error(error_code code) {
  return {static_cast<std::uint8_t>(code), error_category};
}

caf::error make_error(error_code code, std::string message) {
  return {static_cast<std::uint8_t>(code), error_category, caf::make_message(std::move(message))};
}

caf::error make_error(const engine::error& failure) {
  return make_error(from_engine(failure.code), failure.message);
}

failure describe(const caf::error& error) {
  if (!error) return {error_code::none, ""};
  if (error.category() == error_category) {
    const auto code = static_cast<error_code>(error.code());
    if (error.context().match_elements<std::string>()) return {code, error.context().get_as<std::string>(0)};
    return {code, std::string(to_string(code))};
  }
  if (error.category() == caf::atom("system")) {
    switch (static_cast<caf::sec>(error.code())) {
      case caf::sec::request_receiver_down:
      case caf::sec::runtime_error:
        return {error_code::worker_lost, "The worker ended while it had the request; send it again."};
      case caf::sec::request_timeout:
        return {error_code::overloaded, "The worker did not answer in time; try again later."};
      default:
        break;
    }
  }
  return {error_code::internal, "Internal error: " + caf::to_string(error)};
}

std::string render_error(std::uint8_t code, caf::atom_value, const caf::message& context) {
  std::string text(to_string(static_cast<error_code>(code)));
  if (context.match_elements<std::string>()) text += ": " + context.get_as<std::string>(0);
  return text;
}

}  // namespace bitnet::actors
