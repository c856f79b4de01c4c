#pragma once

#include "http/ports.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace bitnet::http {

/// Who may use a route; see access_control.
enum class route_access : std::uint8_t {
  open,  ///< everybody
  key,   ///< who has an API key, where keys are configured
  admin  ///< who has one with the role admin, where keys are configured
};

/// A route that api_service serves. `pattern` is a path; a segment in braces matches any one non-empty
/// segment, and as the last segment everything that is left, slashes included ("/v1/models/{id}": model names
/// contain slashes, and clients do not encode them). HEAD is served by the GET route, without the body.
struct api_route {
  std::string method;
  std::string pattern;
  route_access access = route_access::key;
};

/// A request target (RFC 9112, 3.2) in origin or absolute form.
struct request_target {
  std::string path;   ///< percent-decoded
  std::string query;  ///< as sent, without '?'
};

/// False where the target is in no known form, has a broken percent-encoding, or decodes to a control
/// character.
bool parse_target(std::string_view target, request_target& out);

namespace route_result {
struct probe_route {
  probe which;
  bool head;
};
struct api {
  route_access access;
};
struct not_found {};
struct method_not_allowed {
  std::string allow;  ///< for the Allow header
  bool is_probe;
};
}  // namespace route_result

using route_decision = std::variant<route_result::probe_route, route_result::api, route_result::not_found,
                                    route_result::method_not_allowed>;

/// The answer that a probe's query asks for: `history=1` adds the history to /health; others are ignored.
probe with_query(probe which, std::string_view query);

/// Decides on a method and a decoded path. Linear in the number of routes.
route_decision route(const std::vector<api_route>& routes, std::string_view method, std::string_view path);

}  // namespace bitnet::http
