#pragma once

#include "actors/health.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <span>

namespace bitnet::actors::cluster {

/// A worker to which a request could go.
struct route_candidate {
  std::uint64_t worker = 0;            ///< unique over the cluster
  std::uint64_t capacity = 0;          ///< sequences that it runs or lets wait
  std::uint64_t streams = 0;           ///< that it had when it last reported
  std::uint64_t sent_since = 0;        ///< that the router has sent it since then
  std::uint64_t queued = 0;            ///< of `streams`, not yet running
  std::uint64_t in_flight_tokens = 0;  ///< that the router still expects of it
  double kv_used = 0;                  ///< part of the KV cache in use, 0 to 1
  bool remote = false;
  steady_time reported{};  ///< of a remote one; older ones than `stale_after` are ignored
};

struct route_options {
  std::chrono::milliseconds stale_after{2000};
  /// A prefix stays with its worker while that is at most so much more loaded than the other choice.
  double affinity_bound = 0.25;
  /// A remote worker must be better by this: a network lies between.
  double remote_cost = 0.05;
};

/// How loaded a candidate is: 0 idle, about 1 full, more with a queue. A mean of what each resource says.
double load_score(const route_candidate& c, const route_options& options);

/// The less loaded of two candidates drawn at random ("the power of two choices", Mitzenmacher 2001), which
/// is nearly as balanced as looking at all and does not send every gateway's requests to the same one. With a
/// prefix (hash of a prompt's beginning, 0: none) its own worker, found by rendezvous hashing, comes first
/// as long as the bound allows. Skips full and stale candidates and `except`. Index; nothing where none is
/// left.
std::optional<std::size_t> choose_worker(std::span<const route_candidate> candidates, std::uint64_t prefix,
                                         std::optional<std::uint64_t> except, steady_time now,
                                         const route_options& options, std::minstd_rand& random);

/// Retries in all: at most a tenth of the requests, with a few at once, so that a full cluster is not
/// flooded with second attempts.
class retry_budget {
 public:
  void on_request() noexcept { tokens_ = tokens_ + 0.1 > burst ? burst : tokens_ + 0.1; }
  /// True where a retry may be made, which it then counts.
  bool take() noexcept {
    if (tokens_ < 1) return false;
    tokens_ -= 1;
    return true;
  }

 private:
  static constexpr double burst = 10;
  double tokens_ = burst;
};

}  // namespace bitnet::actors::cluster
