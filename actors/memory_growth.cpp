#include "actors/memory_growth.hpp"

#include <cmath>

namespace bitnet::actors {

std::optional<std::chrono::seconds> memory_growth::update(steady_time now, std::uint64_t resident,
                                                          std::uint64_t headroom) {
  if (!start_) start_ = now;
  const auto t = std::chrono::duration<double>(now - *start_).count();
  if (now - *start_ < options_.warm_up) return std::nullopt;
  const auto spacing = std::chrono::duration<double>(options_.spacing).count();
  const auto window = std::chrono::duration<double>(options_.window).count();
  if (samples_.empty() || t - samples_.back().first >= spacing)
    samples_.emplace_back(t, static_cast<double>(resident));
  while (t - samples_.front().first > window) samples_.pop_front();
  if (samples_.back().first - samples_.front().first < window * 0.9) return std::nullopt;

  // Least squares of bytes over seconds.
  double mean_t = 0, mean_b = 0;
  const auto n = static_cast<double>(samples_.size());
  for (const auto& [time, bytes] : samples_) {
    mean_t += time / n;
    mean_b += bytes / n;
  }
  double tt = 0, tb = 0, bb = 0;
  for (const auto& [time, bytes] : samples_) {
    tt += (time - mean_t) * (time - mean_t);
    tb += (time - mean_t) * (bytes - mean_b);
    bb += (bytes - mean_b) * (bytes - mean_b);
  }
  if (tt <= 0 || bb <= 0) return std::nullopt;
  const auto slope = tb / tt;
  const auto correlation = tb / std::sqrt(tt * bb);
  if (slope * window < static_cast<double>(options_.min_growth_bytes) ||
      correlation < options_.min_correlation)
    return std::nullopt;
  const auto left = static_cast<double>(headroom) / slope;
  if (left > std::chrono::duration<double>(options_.horizon).count()) return std::nullopt;
  return std::chrono::seconds(static_cast<std::int64_t>(left));
}

}  // namespace bitnet::actors
