#pragma once

#include "actors/health.hpp"

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>

namespace bitnet::actors {

struct memory_growth_options {
  std::chrono::seconds warm_up{300};                         ///< caches and pools fill at first
  std::chrono::seconds window{300};                          ///< of the regression
  std::chrono::seconds spacing{5};                           ///< between two samples of it
  std::uint64_t min_growth_bytes = std::uint64_t{32} << 20;  ///< within the window
  double min_correlation = 0.9;                              ///< of memory and time: steady growth, no steps
  std::chrono::seconds horizon{1800};  ///< reaching the limit within this is worth a word
};

/// Finds a leak: own memory that grows steadily, so fast that it reaches the limit soon. What grows once,
/// with the first long prompts for example, or grows so slowly that it does not matter, is none.
class memory_growth {
 public:
  explicit memory_growth(memory_growth_options options = {}) : options_(options) {}

  /// `headroom`: bytes until the limit. The time until it is reached, where it looks like a leak.
  std::optional<std::chrono::seconds> update(steady_time now, std::uint64_t resident, std::uint64_t headroom);

 private:
  memory_growth_options options_;
  std::optional<steady_time> start_;
  std::deque<std::pair<double, double>> samples_;  ///< seconds since the start, bytes
};

}  // namespace bitnet::actors
