#pragma once

namespace bitnet::actors {

/// A threshold that does not flap: set from `enter` on (at or above), cleared only below `leave`.
/// Precondition: leave <= enter. A NaN changes nothing.
class hysteresis {
 public:
  constexpr hysteresis(double enter, double leave) noexcept : enter_(enter), leave_(leave) {}

  constexpr bool update(double value) noexcept {
    if (value >= enter_) set_ = true;
    if (value < leave_) set_ = false;
    return set_;
  }
  constexpr bool is_set() const noexcept { return set_; }

 private:
  double enter_;
  double leave_;
  bool set_ = false;
};

}  // namespace bitnet::actors
