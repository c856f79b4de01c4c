#pragma once

#include "net/peer_links.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace bitnet::actors::cluster {

/// What the links tell the cluster actor. Stays in this process.
struct link_event {
  enum class kind : std::uint8_t { opened, received, closed, resolved } what = kind::received;
  net::link_id link = 0;
  std::string bytes;                   ///< greeting, frame, or why it closed
  std::string dialled;                 ///< opened: the address, empty where the other side dialled
  std::vector<std::string> addresses;  ///< resolved
};

}  // namespace bitnet::actors::cluster
