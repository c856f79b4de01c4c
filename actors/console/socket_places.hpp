#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bitnet::console {

/// Where a server puts its socket: console-PORT.sock in $RUNTIME_DIRECTORY (systemd), else in bitnet-server/
/// under $XDG_RUNTIME_DIR or /run/user/UID, else in /tmp/bitnet-server-UID.
std::string default_socket(std::uint16_t http_port);

/// The sockets of servers on this machine that this user may have started, and those of the system's service.
std::vector<std::string> find_sockets();

}  // namespace bitnet::console
