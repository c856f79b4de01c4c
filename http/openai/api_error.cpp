#include "http/openai/api_error.hpp"

#include "http/openai/valid_utf8.hpp"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/core.h>

#include <utility>

namespace bitnet::http::openai {

namespace json = boost::json;

namespace {

json::value string_or_null(const std::optional<std::string>& text) {
  if (!text) return nullptr;
  return json::string(valid_utf8(*text));
}

}  // namespace

api_error bad_request(std::string_view param, std::string_view code, std::string message) {
  api_error error;
  error.message = std::move(message);
  if (!param.empty()) error.param = std::string(param);
  error.code = std::string(code);
  return error;
}

api_error model_not_found(std::string_view model) {
  api_error error;
  error.status = 404;
  error.type = "not_found_error";
  error.message = fmt::format("The model \"{}\" is not loaded here; GET /v1/models lists what is.", model);
  error.param = "model";
  error.code = "model_not_found";
  return error;
}

std::string render_error(const api_error& error) {
  json::object body;
  body["message"] = json::string(valid_utf8(error.message));
  body["type"] = json::string(valid_utf8(error.type));
  body["param"] = string_or_null(error.param);
  body["code"] = string_or_null(error.code);
  json::object document;
  document["error"] = std::move(body);
  return json::serialize(document);
}

std::string render_error_event(const api_error& error) {
  return "data: " + render_error(error) + "\n\n";
}

}  // namespace bitnet::http::openai
