#pragma once

#include "actors/health.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>

namespace bitnet::apps {

/// Counts API requests where they begin and end; the aggregator reads it at each publication. Any thread.
class request_counters {
 public:
  enum class outcome : std::uint8_t {
    succeeded,
    failed,        ///< a fault of ours: 5xx, or a stream that broke
    client_error,  ///< 4xx or the client left: neither success nor failure
  };

  void begin() noexcept {
    total_.fetch_add(1, std::memory_order_relaxed);
    // The time without any request says nothing about how fast they end.
    if (active_.fetch_add(1, std::memory_order_relaxed) == 0)
      last_end_ns_.store(nanoseconds(std::chrono::steady_clock::now()), std::memory_order_relaxed);
  }

  void end(outcome result, std::chrono::steady_clock::duration duration) noexcept {
    if (result != outcome::client_error) {
      const auto us = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
      microseconds_.fetch_add(static_cast<std::uint64_t>(us), std::memory_order_relaxed);
      (result == outcome::failed ? failed_ : finished_).fetch_add(1, std::memory_order_relaxed);
      note_end(std::chrono::steady_clock::now());
    }
    active_.fetch_sub(1, std::memory_order_relaxed);
  }

  /// When a refused client may try again: about the time in which a quarter of the requests in flight end, at
  /// the pace of the last ones. 1 to 60 s.
  std::chrono::seconds retry_after() const noexcept {
    const auto wait =
        seconds_between_ends_.load(std::memory_order_relaxed) * static_cast<double>(active()) / 4;
    return std::chrono::seconds{static_cast<std::int64_t>(std::clamp(std::ceil(wait), 1.0, 60.0))};
  }

  std::uint64_t active() const noexcept { return active_.load(std::memory_order_relaxed); }

  actors::request_statistics read() const noexcept {
    actors::request_statistics s;
    s.active = active();
    s.total = total_.load(std::memory_order_relaxed);
    s.finished = finished_.load(std::memory_order_relaxed);
    s.failed = failed_.load(std::memory_order_relaxed);
    s.seconds = static_cast<double>(microseconds_.load(std::memory_order_relaxed)) / 1e6;
    return s;
  }

 private:
  static std::int64_t nanoseconds(std::chrono::steady_clock::time_point time) noexcept {
    return std::chrono::nanoseconds(time.time_since_epoch()).count();
  }

  /// A moving average over about the last ten; ends that race may count as one.
  void note_end(std::chrono::steady_clock::time_point now) noexcept {
    const auto ns = nanoseconds(now);
    const auto last = last_end_ns_.exchange(ns, std::memory_order_relaxed);
    if (ns < last) return;
    const auto gap = 1e-9 * static_cast<double>(ns - last);
    const auto mean = seconds_between_ends_.load(std::memory_order_relaxed);
    seconds_between_ends_.store(mean == 0 ? gap : mean + 0.1 * (gap - mean), std::memory_order_relaxed);
  }

  std::atomic<std::uint64_t> active_{0};
  std::atomic<std::uint64_t> total_{0};
  std::atomic<std::uint64_t> finished_{0};
  std::atomic<std::uint64_t> failed_{0};
  std::atomic<std::uint64_t> microseconds_{0};
  std::atomic<std::int64_t> last_end_ns_{0};  ///< steady clock; or when the first of those in flight began
  std::atomic<double> seconds_between_ends_{0};
};

}  // namespace bitnet::apps
