#pragma once

#include <chrono>
#include <cstdint>

namespace bitnet::actors {

/// Notices that a counter which another process moves stands still. Looks that come late (the looker was
/// stopped, the machine slept) count as one each, so that the other one had time to run between them.
class standstill {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  standstill(std::chrono::seconds limit, unsigned looks) noexcept : limit_(limit), looks_(looks) {}

  /// True where `value` has been the same for longer than the limit, and at that many looks since it was
  /// first seen.
  bool update(std::uint64_t value, time_point now) noexcept {
    if (value != value_ || same_ == 0) {
      value_ = value;
      since_ = now;
      same_ = 1;
      return false;
    }
    ++same_;
    return now - since_ > limit_ && same_ > looks_;
  }
  /// It need not move now.
  void excuse() noexcept { same_ = 0; }

 private:
  std::chrono::seconds limit_;
  unsigned looks_;
  std::uint64_t value_ = 0;
  time_point since_{};
  unsigned same_ = 0;  ///< looks; 0: none yet
};

}  // namespace bitnet::actors
