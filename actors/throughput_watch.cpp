#include "actors/throughput_watch.hpp"

#include <algorithm>
#include <bit>

namespace bitnet::actors {

namespace {

constexpr double learning_rate = 0.1;

}  // namespace

/// How many times slower the steps since the last call were than usual; nothing where that is not known.
std::optional<double> throughput_watch::measure(const work_done& now) {
  const auto steps = now.steps - last_->steps;
  if (now.steps < last_->steps || steps < options_.min_steps) return std::nullopt;
  const auto seconds = (now.step_seconds - last_->step_seconds) / static_cast<double>(steps);
  const auto tokens = (now.tokens - last_->tokens) / steps;
  auto& known = usual_[{std::bit_width(tokens), std::bit_width(now.kv_blocks_used)}];
  if (known.intervals < options_.learning_intervals) {
    // The fastest: what is slow while it is learnt must not become usual.
    known.seconds = known.intervals == 0 ? seconds : std::min(known.seconds, seconds);
    ++known.intervals;
    return std::nullopt;
  }
  if (known.seconds <= 0) return std::nullopt;
  const auto factor = seconds / known.seconds;
  // Follows slow changes, but not a collapse.
  if (factor < options_.collapse / 2) known.seconds += learning_rate * (seconds - known.seconds);
  return factor;
}

std::optional<double> throughput_watch::update(const work_done& now, steady_time time) {
  if (!last_) {
    last_ = now;
    last_time_ = time;
    return std::nullopt;
  }
  const auto elapsed = time - last_time_;
  if (elapsed >= options_.interval && now.steps != last_->steps) {
    if (const auto factor = measure(now)) {
      factor_ = *factor;
      if (factor_ < options_.collapse / 2) slow_since_.reset();
      if (factor_ >= options_.collapse && !slow_since_) slow_since_ = last_time_;
    }
    last_ = now;
    last_time_ = time;
  } else if (elapsed >= options_.sustained) {
    slow_since_.reset();  // idle: nothing is slow
    last_ = now;
    last_time_ = time;
  }
  if (!slow_since_ || time - *slow_since_ < options_.sustained) return std::nullopt;
  return factor_;
}

}  // namespace bitnet::actors
