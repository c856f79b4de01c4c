#include "actors/cluster/routing.hpp"

#include <algorithm>
#include <vector>

namespace bitnet::actors::cluster {

namespace {

std::uint64_t rendezvous_weight(std::uint64_t worker, std::uint64_t prefix) noexcept {
  std::uint64_t x = worker * 0x9E3779B97F4A7C15ULL ^ prefix;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

}  // namespace

double load_score(const route_candidate& c, const route_options& options) {
  // A few thousand tokens in flight occupy a worker as much as a full batch.
  constexpr double many_tokens = 4096;
  const auto capacity = static_cast<double>(std::max<std::uint64_t>(c.capacity, 1));
  const auto streams = static_cast<double>(c.streams + c.sent_since) / capacity;
  const auto queued = static_cast<double>(c.queued) / capacity;
  const auto tokens = static_cast<double>(c.in_flight_tokens) / many_tokens;
  return 0.5 * streams + queued + 0.25 * tokens + 0.25 * c.kv_used + (c.remote ? options.remote_cost : 0);
}

std::optional<std::size_t> choose_worker(std::span<const route_candidate> candidates, std::uint64_t prefix,
                                         std::optional<std::uint64_t> except, steady_time now,
                                         const route_options& options, std::minstd_rand& random) {
  std::vector<std::size_t> able;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const auto& c = candidates[i];
    if (c.streams + c.sent_since >= c.capacity || c.worker == except) continue;
    if (c.remote && now - c.reported > options.stale_after) continue;
    able.push_back(i);
  }
  if (able.empty()) return std::nullopt;
  std::uniform_int_distribution<std::size_t> any(0, able.size() - 1);
  const auto a = able[any(random)];
  auto best = a;
  if (able.size() > 1) {
    std::uniform_int_distribution<std::size_t> other(0, able.size() - 2);
    auto b = able[other(random)];
    if (b == a) b = able.back();
    if (load_score(candidates[b], options) < load_score(candidates[a], options)) best = b;
  }
  if (prefix == 0) return best;
  const auto own = *std::max_element(able.begin(), able.end(), [&](std::size_t x, std::size_t y) {
    return rendezvous_weight(candidates[x].worker, prefix) < rendezvous_weight(candidates[y].worker, prefix);
  });
  const bool within =
      load_score(candidates[own], options) <= load_score(candidates[best], options) + options.affinity_bound;
  return within ? own : best;
}

}  // namespace bitnet::actors::cluster
