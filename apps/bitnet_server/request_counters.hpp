#pragma once

#include "actors/health.hpp"

#include <atomic>
#include <chrono>
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
    active_.fetch_add(1, std::memory_order_relaxed);
  }

  void end(outcome result, std::chrono::steady_clock::duration duration) noexcept {
    if (result != outcome::client_error) {
      const auto us = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
      microseconds_.fetch_add(static_cast<std::uint64_t>(us), std::memory_order_relaxed);
      (result == outcome::failed ? failed_ : finished_).fetch_add(1, std::memory_order_relaxed);
    }
    active_.fetch_sub(1, std::memory_order_relaxed);
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
  std::atomic<std::uint64_t> active_{0};
  std::atomic<std::uint64_t> total_{0};
  std::atomic<std::uint64_t> finished_{0};
  std::atomic<std::uint64_t> failed_{0};
  std::atomic<std::uint64_t> microseconds_{0};
};

}  // namespace bitnet::apps
