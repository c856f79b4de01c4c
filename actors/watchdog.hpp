#pragma once

#include "actors/hang_rule.hpp"
#include "actors/worker_board.hpp"

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace bitnet::actors {

/// What the watchdog does at each look, without its thread. One thread.
class watch_round {
 public:
  watch_round(hang_limits limits, std::chrono::milliseconds period) : limits_(limits), period_(period) {}

  void add(std::shared_ptr<worker_board> board);
  void remove(const worker_board& board);
  void look(steady_time now) noexcept;

 private:
  struct watched {
    std::shared_ptr<worker_board> board;
    hang_rule rule;
  };
  void look_at(watched& each, steady_time now) const noexcept;

  hang_limits limits_;
  std::chrono::milliseconds period_;
  steady_time last_look_{};
  std::vector<watched> all_;
};

/// Looks at workers from a thread that needs nothing of the rest of the server: no actor, no scheduler, no
/// memory. A worker whose engine is silent gets nothing new at once (worker_board::suspect, which the router
/// reads), and is given up when hang_rule says so; one whose process has ended is told so.
class watchdog {
 public:
  /// `period`: between two looks.
  explicit watchdog(hang_limits limits = {},
                    std::chrono::milliseconds period = std::chrono::milliseconds(100));
  ~watchdog();
  watchdog(const watchdog&) = delete;
  watchdog& operator=(const watchdog&) = delete;

  /// Until forget(). Any thread.
  void watch(std::shared_ptr<worker_board> board);
  void forget(const worker_board& board);

 private:
  void run();

  const std::chrono::milliseconds period_;
  std::mutex mutex_;
  std::condition_variable changed_;
  watch_round round_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace bitnet::actors
