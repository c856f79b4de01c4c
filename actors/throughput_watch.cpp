#include "actors/throughput_watch.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace bitnet::actors {

namespace {

constexpr double learning_rate = 0.1;
constexpr double busy_machine = 0.2;  ///< part of the time in which a thread waited for a CPU

}  // namespace

/// What a step of this kind takes at most, going by the kinds that are known: each part of a step grows with
/// its tokens or with its context, or with neither. Nothing while no kind is known.
std::optional<double> throughput_watch::expected(const kind& k) const {
  std::optional<double> least;
  for (const auto& [other, known] : usual_) {
    if (known.intervals < options_.learning_intervals || known.seconds <= 0) continue;
    const auto doublings = std::max({0, k.first - other.first, k.second - other.second});
    const auto bound = std::ldexp(known.seconds, doublings);
    least = least ? std::min(*least, bound) : bound;
  }
  return least;
}

/// How many times slower the steps since the last call were than usual; nothing where that is not known.
std::optional<double> throughput_watch::measure(const work_done& now) {
  const auto steps = now.steps - last_->steps;
  if (now.steps < last_->steps || steps < options_.min_steps) return std::nullopt;
  const auto took = now.step_seconds - last_->step_seconds;
  const auto seconds = took / static_cast<double>(steps);
  // Several threads may have waited at the same time, or between two steps: at most all of it.
  const auto waited = std::clamp(now.cpu_wait_seconds - last_->cpu_wait_seconds, 0.0, took);
  const kind k{std::bit_width((now.tokens - last_->tokens) / steps), std::bit_width(now.kv_blocks_used)};
  const auto usually = expected(k);
  const auto factor =
      usually ? std::optional((seconds - waited / static_cast<double>(steps)) / *usually) : std::nullopt;
  if (!factor || *factor < options_.collapse / 2) learn(usual_[k], seconds, waited < busy_machine * took);
  return factor;
}

/// Not what is far too slow: a collapse must not become usual.
void throughput_watch::learn(usual& known, double seconds, bool undisturbed) const {
  if (known.intervals < options_.learning_intervals) {
    known.seconds = known.intervals == 0 ? seconds : std::min(known.seconds, seconds);
    ++known.intervals;
  } else if (undisturbed) {
    known.seconds += learning_rate * (seconds - known.seconds);  // follows slow changes
  }
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
