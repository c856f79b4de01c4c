#pragma once

#include "http/unique_descriptor.hpp"

#include <tl/expected.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace bitnet::http {

/// Listening sockets on one address and port, one a thread: the kernel spreads connections over them
/// (SO_REUSEPORT).
struct listener_group {
  std::vector<unique_descriptor>
      sockets;  ///< non-blocking, close-on-exec, TCP_NODELAY (accepted ones inherit it)
  std::uint16_t port = 0;
  bool ipv6 = false;
};

/// Opens `count` listeners. `address` is an IPv4 or IPv6 address or "localhost"; port 0 picks one. Refuses a
/// port on which anything else listens, other servers with SO_REUSEPORT included. The error is one sentence.
tl::expected<listener_group, std::string> open_listeners(const std::string& address, std::uint16_t port,
                                                         unsigned count);

}  // namespace bitnet::http
