#include "actors/restart_policy.hpp"

#include <algorithm>
#include <cmath>

namespace bitnet::actors {

namespace {

/// The failures within the last `period`, this one included.
void record(std::deque<steady_time>& failures, steady_time now, std::chrono::seconds period) {
  while (!failures.empty() && now - failures.front() > period) failures.pop_front();
  failures.push_back(now);
}

}  // namespace

std::optional<std::chrono::milliseconds> restart_policy::on_failure_after_proof(steady_time now) {
  failures_.clear();
  record(proved_, now, limits_.proved_period);
  if (proved_.size() > limits_.max_proved_restarts) return std::nullopt;
  return std::chrono::milliseconds(0);
}

std::optional<std::chrono::milliseconds> restart_policy::on_failure(steady_time now) {
  record(failures_, now, limits_.period);
  if (failures_.size() > limits_.max_restarts) return std::nullopt;
  const auto doublings = static_cast<double>(failures_.size() - 1);
  const auto jitter = std::uniform_real_distribution<double>(1.0, 1.5)(random_);
  const auto delay = static_cast<double>(limits_.min_delay.count()) * std::exp2(doublings) * jitter;
  const auto capped = std::min(delay, static_cast<double>(limits_.max_delay.count()));
  return std::chrono::milliseconds(static_cast<std::int64_t>(capped));
}

}  // namespace bitnet::actors
