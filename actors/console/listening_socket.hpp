#pragma once

#include "actors/descriptor.hpp"

#include <tl/expected.hpp>

#include <cstdint>
#include <string>

namespace bitnet::console {

using actors::descriptor;

/// Listens at `path` with mode 0600. Missing parents are made for this user alone; a socket file without a
/// listener is replaced, one with a listener is left alone and is an error.
tl::expected<descriptor, std::string> listen_unix(const std::string& path);

/// Listens on a loopback address, and on no other.
tl::expected<descriptor, std::string> listen_loopback(const std::string& address, std::uint16_t port);

/// The port a TCP listener got.
std::uint16_t port_of(const descriptor& listener);

/// Connect, for clients: blocking, with time-outs for connecting, sending and receiving.
tl::expected<descriptor, std::string> connect_unix(const std::string& path, int timeout_ms);
tl::expected<descriptor, std::string> connect_tcp(const std::string& host, const std::string& port,
                                                  int timeout_ms);

}  // namespace bitnet::console
