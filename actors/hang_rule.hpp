#pragma once

#include "actors/health.hpp"

#include <chrono>
#include <cstdint>

namespace bitnet::actors {

struct worker_board;

struct hang_limits {
  std::chrono::milliseconds min_hang{2000};   ///< work without progress for this, or ten times the p99 of
  std::chrono::milliseconds max_hang{30000};  ///< the steps up to this, is a hang: no new requests
  /// A hung process is killed after 1.5 times its limit: another one costs little. A thread, whose end costs
  /// all it did, is given up after three times its limit and at least this: on a crowded machine a slow pass
  /// looks like a hang for a while.
  std::chrono::seconds min_replace{10};
  std::chrono::seconds hard_hang{60};  ///< a hang that lasts this long cannot be healed from inside
};

/// What can be seen of an engine from outside. Times in CLOCK_MONOTONIC nanoseconds.
struct life_signs {
  bool killable = false;              ///< inference_engine::killable
  std::int64_t busy_since_ns = 0;     ///< the worker waits for the engine since then; 0: it does not
  std::int64_t last_progress_ns = 0;  ///< of a pass
  std::uint64_t passes = 0;           ///< forward passes begun, also those that deliver nothing
  std::int64_t heartbeat_ns = 0;      ///< inference_engine::heartbeat_ns; 0: the engine has none
  double step_seconds_p99 = 0;
};
/// Precondition: the board's phase is past `starting`, and not `refused`.
life_signs read_life_signs(const worker_board& board) noexcept;

struct hang_judgement {
  std::chrono::nanoseconds silence{0};
  bool suspect = false;      ///< send it nothing new
  bool give_up = false;      ///< end it
  bool cannot_heal = false;  ///< it should have ended long ago
};

/// When silence is a hang: the one place that decides, for the watchdog, which acts, and for the report.
class hang_rule {
 public:
  explicit hang_rule(hang_limits limits = {}) : limits_(limits) {}

  hang_judgement judge(const life_signs& signs, steady_time now) const noexcept;

  /// Silence before `now` proves nothing: whoever judges was itself kept from running until then (the machine
  /// slept, the process was stopped).
  void forgive(steady_time now) noexcept { not_before_ = now; }

 private:
  hang_limits limits_;
  steady_time not_before_{};
};

}  // namespace bitnet::actors
