#pragma once

#include "http/ports.hpp"

#include <cstddef>
#include <string_view>

namespace bitnet::http {

/// A request for a probe, recognised without the general parser.
struct probe_request {
  probe which = probe::health;
  bool head = false;
  bool keep_alive = true;
};

/// Recognises a complete, plain HTTP/1.1 GET or HEAD of a probe path at the front of `input`: no body, no
/// query, one Host, and nothing else that changes how the connection goes on. Returns its length, or 0 for
/// anything else, malformed requests included: the general parser then decides. What is accepted here, the
/// general parser accepts with the same meaning. No allocation; one pass over the headers.
std::size_t parse_probe_request(std::string_view input, probe_request& out) noexcept;

}  // namespace bitnet::http
