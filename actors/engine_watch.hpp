#pragma once

#include "actors/counter_window.hpp"
#include "actors/hang_rule.hpp"
#include "actors/health.hpp"
#include "actors/hysteresis.hpp"
#include "actors/throughput_watch.hpp"
#include "actors/worker_board.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace bitnet::actors {

struct engine_watch_options {
  hang_limits hang;
  std::chrono::seconds livelock{25};   ///< passes without a token or a prefilled prompt token, and at least
  std::uint64_t livelock_passes = 64;  ///< so many: fewer may be one long prompt, or one computed again
  std::chrono::seconds stalled_queue{7};    ///< sequences wait and none runs
  std::chrono::seconds pass_silence{2};     ///< a pass that moved since then is under way
  std::chrono::seconds canary_overdue{90};  ///< no canary for this long
  std::chrono::seconds failure_window{60};  ///< for failed computations
  /// Steps with failed computations within the window: one bad step takes a whole batch along.
  std::uint64_t failures_unhealthy = 3;
  std::uint64_t error_rate_min_sequences = 20;  ///< fewer in the window, or fewer bad steps, say nothing
  double error_rate_degraded_percent = 10;      ///< and clears below half of it
  double queue_degraded_ratio = 1.0;            ///< full
  double queue_clear_ratio = 0.75;
  std::chrono::seconds kv_leak{3};  ///< an idle engine holds KV blocks for so long
  throughput_watch_options throughput;
};

/// Copy of a worker's board at one moment.
struct worker_observation : life_signs {
  worker_phase phase = worker_phase::starting;
  std::string refusal;
  std::uint64_t running = 0;
  std::uint64_t queued = 0;
  std::uint64_t queue_capacity = 0;
  std::uint64_t steps = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t generated_tokens = 0;
  std::uint64_t finished_sequences = 0;
  std::uint64_t failed_sequences = 0;
  std::uint64_t failed_steps = 0;
  std::uint64_t canary_runs = 0;
  std::int64_t canary_ran_ns = 0;
  std::uint64_t canary_hash = 0;
  bool canary_failed = false;
  double step_seconds = 0;      ///< sum of the durations of all steps
  double cpu_wait_seconds = 0;  ///< inference_engine::cpu_wait
  std::uint64_t kv_blocks_used = 0;
  std::optional<std::string> corrupted;  ///< weights that the engine found changed in memory
};
worker_observation observe(const worker_board& board, std::uint64_t queue_capacity);

struct engine_verdict {
  health_status status = health_status::unhealthy;
  std::string message;
  std::string code = std::string(health_ok);  ///< see component_report
  bool cannot_heal = false;
  bool takes_requests = false;  ///< route to it
  bool replace = false;         ///< hopeless: ask it to give up, and replace it when it does
  bool wrong_results = false;   ///< the weights are not what they were: the canary's hash, or their checksum
};

/// One that takes no requests, and nobody to be asked to give up.
engine_verdict unhealthy_verdict(std::string_view code, std::string message);

/// Likewise, of an engine that only a restart of the server brings back.
engine_verdict lost_verdict(std::string message);

/// Judges one incarnation of a worker from outside, from what it delivers rather than from its being alive:
/// loop counters tick in a livelock, and admission refreshes nothing here.
class engine_watch {
 public:
  /// `golden`: the canary's hash that an earlier incarnation found on the same weights; nothing: the first
  /// one found becomes it.
  explicit engine_watch(engine_watch_options options = {}, std::optional<std::uint64_t> golden = {});

  engine_verdict judge(const worker_observation& seen, steady_time now);

  /// See hang_rule.
  void forgive(steady_time now) noexcept { hang_.forgive(now); }

  std::optional<std::uint64_t> golden() const noexcept { return golden_; }
  /// The hash that another worker found on the same weights; nothing where one is known here.
  void expect(std::uint64_t golden) noexcept {
    if (!golden_) golden_ = golden;
  }

 private:
  struct ended {
    std::uint64_t finished = 0;
    std::uint64_t failed = 0;
    std::uint64_t failed_steps = 0;
  };

  std::optional<engine_verdict> judge_start(const worker_observation& seen) const;
  std::optional<engine_verdict> judge_hang(const worker_observation& seen, steady_time now) const;
  std::optional<engine_verdict> judge_progress(const worker_observation& seen, steady_time now);
  std::optional<engine_verdict> judge_queue(const worker_observation& seen, bool computes, steady_time now);
  std::optional<engine_verdict> judge_canary(const worker_observation& seen, steady_time now);
  std::optional<engine_verdict> judge_failures(const worker_observation& seen);
  std::optional<engine_verdict> judge_load(const worker_observation& seen);
  std::optional<engine_verdict> judge_kv(const worker_observation& seen, steady_time now);
  std::optional<engine_verdict> judge_throughput(const worker_observation& seen, steady_time now);

  engine_watch_options options_;
  hang_rule hang_;
  std::optional<std::uint64_t> golden_;
  std::uint64_t work_ = 0;  ///< tokens delivered and prefilled when last seen to move
  std::optional<steady_time> work_moved_;
  std::uint64_t passes_ = 0;  ///< then
  std::optional<steady_time> queue_stalled_since_;
  std::optional<steady_time> ready_since_;
  counter_window<ended> ended_;
  hysteresis error_rate_;
  hysteresis queue_;
  std::optional<steady_time> kv_held_since_;  ///< by nobody
  std::uint64_t finished_before_ = 0;         ///< sequences, when the KV cache was looked at last
  throughput_watch throughput_;
};

}  // namespace bitnet::actors
