#pragma once

#include "actors/health.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

namespace bitnet::actors {

struct throughput_watch_options {
  double collapse = 10;                ///< times as slow as usual for its kind of step; clears below half
  std::chrono::seconds sustained{20};  ///< for so long
  std::uint64_t min_steps = 3;         ///< an interval with fewer says nothing
  unsigned learning_intervals = 4;     ///< of a kind of step before it has a usual duration
  std::chrono::seconds interval{2};    ///< between two measurements
};

/// Work of a worker since its start.
struct work_done {
  std::uint64_t steps = 0;
  std::uint64_t tokens = 0;  ///< prefilled and generated
  std::uint64_t kv_blocks_used = 0;
  double step_seconds = 0;      ///< sum of the durations of all steps
  double cpu_wait_seconds = 0;  ///< of the engine's threads: what a busy machine explains
};

/// Notices that forward passes take far longer than they did. Normalised: a step is compared only with those
/// that had about as many tokens (batch, prompt chunk) and about as much context, each within a factor of 2,
/// and with others as far as they say what it takes at most. Time in which a thread waited for a CPU does not
/// count: that is the load of the machine, however high.
class throughput_watch {
 public:
  explicit throughput_watch(throughput_watch_options options = {}) : options_(options) {}

  /// How many times slower than usual, while this is so for long enough.
  std::optional<double> update(const work_done& now, steady_time time);

 private:
  using kind = std::pair<int, int>;  ///< logarithms of the tokens a step and of the KV blocks
  struct usual {
    double seconds = 0;  ///< a step
    unsigned intervals = 0;
  };

  std::optional<double> expected(const kind& k) const;
  std::optional<double> measure(const work_done& now);
  void learn(usual& known, double seconds, bool undisturbed) const;

  throughput_watch_options options_;
  std::optional<work_done> last_;
  steady_time last_time_{};
  std::map<kind, usual> usual_;
  std::optional<steady_time> slow_since_;
  double factor_ = 1;
};

}  // namespace bitnet::actors
