#pragma once

#include "actors/health.hpp"

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <random>

namespace bitnet::actors {

struct restart_limits {
  unsigned max_restarts = 5;        ///< within `period`; one more failure gives up
  std::chrono::seconds period{60};  ///< OTP's "intensity"
  std::chrono::milliseconds min_delay{200};
  std::chrono::milliseconds max_delay{30000};
  /// For failures of what had proved itself: restarted at once, until there are more than this.
  unsigned max_proved_restarts = 300;
  std::chrono::seconds proved_period{600};
};

/// Decides when to restart what failed: doubling delays with jitter while failures are frequent, and an end
/// to it when they are too many.
class restart_policy {
 public:
  explicit restart_policy(restart_limits limits = {}, std::uint32_t seed = 1)
      : limits_(limits), random_(seed) {}

  /// Records a failure. The delay before the restart (the doubled delay, times 1 to 1.5, between min_delay
  /// and max_delay), or nothing where the limit is exceeded.
  std::optional<std::chrono::milliseconds> on_failure(steady_time now);

  /// Records the failure of something that had done its work well since its start, and forgets the failures
  /// before that. The delay is 0, or nothing where this happens too often.
  std::optional<std::chrono::milliseconds> on_failure_after_proof(steady_time now);

  /// Failures within the last period, of the kind that came last.
  std::size_t recent_failures() const noexcept {
    return failures_.empty() ? proved_.size() : failures_.size();
  }

 private:
  restart_limits limits_;
  std::minstd_rand random_;
  std::deque<steady_time> failures_;
  std::deque<steady_time> proved_;
};

}  // namespace bitnet::actors
