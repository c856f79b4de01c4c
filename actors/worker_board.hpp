#pragma once

#include "actors/inference_engine.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace bitnet::actors {

enum class worker_phase : std::uint8_t {
  starting,  ///< builds the engine
  refused,   ///< the engine could not be built: `refusal` says why
  idle,
  stepping,  ///< in a step of the engine
  probing,   ///< in a canary
};

/// What a worker shows of itself. The worker's thread writes; any thread reads, also while the worker is busy
/// or hangs, because a busy actor answers no message. Relaxed atomics: figures of one moment may be a step
/// apart.
struct worker_board {
  explicit worker_board(std::uint64_t worker, std::uint64_t incarnation_number)
      : id(worker), incarnation(incarnation_number) {}

  const std::uint64_t id;
  const std::uint64_t incarnation;
  bool remote = false;  ///< of another node: a network lies between. Set before others see the board
  /// What a step may take for all that is known from earlier incarnations, seconds. Set before others see it.
  double step_floor = 0;

  std::atomic<worker_phase> phase{worker_phase::starting};
  std::atomic<std::int64_t> busy_since_ns{0};  ///< steady clock; 0: not in the engine

  // Written by the watchdog.
  std::atomic<bool> suspect{false};      ///< send it nothing new: its engine is silent, or gone
  std::atomic<bool> given_up{false};     ///< the engine was told to end
  std::atomic<bool> hung{false};         ///< for its silence alone: it may have been merely slow
  std::atomic<bool> end_noticed{false};  ///< the engine's process has ended, the worker was told

  // Load.
  std::atomic<std::uint64_t> running{0};
  std::atomic<std::uint64_t> queued{0};
  std::atomic<std::uint64_t> streams{0};  ///< accepted and not yet finished
  std::atomic<std::uint64_t> kv_blocks_used{0};
  std::atomic<std::uint64_t> kv_blocks_total{0};

  // Work since the incarnation began.
  std::atomic<std::uint64_t> steps{0};
  std::atomic<std::uint64_t> steps_us{0};  ///< sum of their durations, microseconds
  std::atomic<std::uint64_t> prompt_tokens{0};
  std::atomic<std::uint64_t> cached_tokens{0};
  std::atomic<std::uint64_t> generated_tokens{0};
  std::atomic<std::uint64_t> preemptions{0};
  std::atomic<std::uint64_t> finished_sequences{0};
  std::atomic<std::uint64_t> failed_sequences{0};  ///< failed computations, not cancellations
  std::atomic<std::uint64_t> failed_steps{0};      ///< in which at least one failed

  // Canary: a forward pass with a known answer.
  std::atomic<std::uint64_t> canary_runs{0};
  std::atomic<std::int64_t> canary_ran_ns{0};  ///< steady clock, of the last completed run
  std::atomic<std::uint64_t> canary_hash{0};   ///< of the last run
  std::atomic<bool> canary_failed{false};      ///< the last run gave no hash

  /// Durations of the last steps, microseconds; a ring in the order of `steps`.
  static constexpr std::size_t step_ring_size = 256;
  std::array<std::atomic<std::uint32_t>, step_ring_size> step_us{};

  /// Set before `phase` leaves `starting`, then never changed: read only after seeing that (acquire).
  std::shared_ptr<inference_engine> engine;  ///< outside the worker's thread: what "any thread" may call
  std::string refusal;
  std::function<void()> wake_worker;  ///< makes the worker look whether its engine still lives; any thread
};

/// 99th percentile of the durations in the ring, seconds; 0 before the first step. Takes no memory.
double step_seconds_p99(const worker_board& board) noexcept;

/// The same for a judgement of silence: until the ring is full, not below the board's step_floor.
double expected_step_seconds(const worker_board& board) noexcept;

}  // namespace bitnet::actors
