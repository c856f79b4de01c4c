#pragma once

#include "actors/health.hpp"

#include <chrono>
#include <deque>
#include <utility>

namespace bitnet::actors {

/// Samples of growing counters over a sliding window, to turn them into rates. Samples closer than a
/// hundredth of the window are merged, so memory is bounded.
template <class Sample>
class counter_window {
 public:
  explicit counter_window(std::chrono::nanoseconds length) : length_(length) {}

  void add(steady_time now, Sample sample) {
    if (samples_.size() >= 2 && now - samples_[samples_.size() - 2].first < length_ / 100)
      samples_.back() = {now, std::move(sample)};
    else
      samples_.emplace_back(now, std::move(sample));
    // Keep one sample at or before the window's begin: the base that rates are measured from.
    while (samples_.size() > 1 && samples_[1].first <= now - length_) samples_.pop_front();
  }

  bool empty() const noexcept { return samples_.empty(); }
  /// Precondition of the others: not empty.
  const Sample& oldest() const { return samples_.front().second; }
  const Sample& newest() const { return samples_.back().second; }
  double seconds() const {
    return std::chrono::duration<double>(samples_.back().first - samples_.front().first).count();
  }

 private:
  std::chrono::nanoseconds length_;
  std::deque<std::pair<steady_time, Sample>> samples_;
};

}  // namespace bitnet::actors
