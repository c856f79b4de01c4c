#include "http/openai/object_reader.hpp"
#include "http/openai/request.hpp"

#include <fmt/core.h>

#include <utility>

namespace bitnet::http::openai {

namespace json = boost::json;

api_result<tokenize_request> parse_tokenize_request(std::string_view body, const request_limits& limits) {
  const auto document = parse_object(body, limits.max_body_bytes);
  if (!document) return tl::unexpected(document.error());
  object_reader reader(document->get_object());
  tokenize_request request;
  bool has_text = false;
  for (const std::string_view name : {"prompt", "text", "content"}) {
    has_text = has_text || reader.find(name) != nullptr;
    reader.string(name, request.text);
  }
  if (!has_text) reader.fail("content", codes::missing_parameter, "is required");
  reader.string("model", request.model);
  reader.boolean("add_special", request.add_special);
  reader.boolean("parse_special", request.parse_special);
  if (reader.error()) return tl::unexpected(*reader.error());
  return request;
}

api_result<detokenize_request> parse_detokenize_request(std::string_view body, const request_limits& limits) {
  const auto document = parse_object(body, limits.max_body_bytes);
  if (!document) return tl::unexpected(document.error());
  object_reader reader(document->get_object());
  detokenize_request request;
  reader.string("model", request.model);
  if (const json::value* tokens = reader.find("tokens"); tokens == nullptr) {
    reader.fail("tokens", codes::missing_parameter, "is required");
  } else if (auto ids = tokens->is_array() ? token_ids(tokens->get_array()) : std::nullopt; !ids) {
    reader.fail("tokens", codes::invalid_type, "must be an array of token ids");
  } else {
    request.tokens = std::move(*ids);
  }
  if (reader.error()) return tl::unexpected(*reader.error());
  return request;
}

}  // namespace bitnet::http::openai
