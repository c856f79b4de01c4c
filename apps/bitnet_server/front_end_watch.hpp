#pragma once

#include "actors/health.hpp"

#include <chrono>
#include <cstdint>
#include <optional>

namespace bitnet::apps {

/// Judges what the front end shows: whether its threads run, and whether it turns clients away. One thread.
class front_end_watch {
 public:
  /// Of the reports; twice of how often they come.
  static constexpr std::uint64_t period_ns = 2'000'000'000;

  struct reading {
    std::chrono::milliseconds silence{};  ///< http::server::silence
    std::uint64_t connections = 0;        ///< open
    std::uint64_t limit = 0;              ///< of connections
    std::uint64_t refused = 0;            ///< connections and requests beyond the limit, since the start
  };

  /// Called about once a second.
  actors::component_report judge(const reading& now, actors::steady_time time);

 private:
  unsigned silent_ = 0;  ///< looks in a row at which a thread had been silent for too long
  std::uint64_t refused_ = 0;
  std::optional<actors::steady_time> refused_last_;
};

}  // namespace bitnet::apps
