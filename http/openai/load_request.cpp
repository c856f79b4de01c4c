#include "http/openai/object_reader.hpp"
#include "http/openai/request.hpp"

#include <utility>

namespace bitnet::http::openai {

api_result<load_request> parse_load_request(std::string_view body, const request_limits& limits) {
  const auto document = parse_object(body, limits.max_body_bytes);
  if (!document) return tl::unexpected(document.error());
  object_reader reader(document->get_object());
  load_request request;
  reader.string("path", request.path);
  if (!reader.error() && reader.find("path") == nullptr)
    reader.fail("path", codes::missing_parameter, "is required");
  float timeout = static_cast<float>(request.timeout_seconds);
  reader.number("timeout", 0, 3600, timeout);
  request.timeout_seconds = timeout;
  if (reader.error()) return tl::unexpected(*reader.error());
  return request;
}

}  // namespace bitnet::http::openai
