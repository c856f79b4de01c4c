#pragma once

#include <cstdint>
#include <string>

namespace bitnet::actors {

/// An actor that has had one message in hand, or waiting, for long.
struct stuck_actor {
  std::uint64_t id = 0;
  std::string name;
  std::uint64_t done = 0;  ///< messages before that one
  std::int64_t time_ns = 0;
};

}  // namespace bitnet::actors
