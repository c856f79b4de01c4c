#include "actors/restart_policy.hpp"

#include <algorithm>
#include <cmath>

namespace bitnet::actors {

std::optional<std::chrono::milliseconds> restart_policy::on_failure(steady_time now) {
  while (!failures_.empty() && now - failures_.front() > limits_.period) failures_.pop_front();
  failures_.push_back(now);
  if (failures_.size() > limits_.max_restarts) return std::nullopt;
  const auto doublings = static_cast<double>(failures_.size() - 1);
  const auto jitter = std::uniform_real_distribution<double>(1.0, 1.5)(random_);
  const auto delay = static_cast<double>(limits_.min_delay.count()) * std::exp2(doublings) * jitter;
  const auto capped = std::min(delay, static_cast<double>(limits_.max_delay.count()));
  return std::chrono::milliseconds(static_cast<std::int64_t>(capped));
}

}  // namespace bitnet::actors
