#include "actors/engine_watch.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace bitnet::actors {

namespace {

engine_verdict degraded(std::string_view code, std::string message) {
  engine_verdict v;
  v.code = code;
  v.status = health_status::degraded;
  v.message = std::move(message);
  v.takes_requests = true;
  return v;
}

double seconds(std::chrono::nanoseconds d) {
  return std::chrono::duration<double>(d).count();
}

std::chrono::nanoseconds since(steady_time now, std::int64_t then_ns) {
  return now.time_since_epoch() - std::chrono::nanoseconds(then_ns);
}

}  // namespace

engine_verdict unhealthy_verdict(std::string_view code, std::string message) {
  engine_verdict v;
  v.code = code;
  v.message = std::move(message);
  return v;
}

engine_verdict lost_verdict(std::string message) {
  auto v = unhealthy_verdict("gave_up", std::move(message));
  v.cannot_heal = true;
  return v;
}

double step_seconds_p99(const worker_board& board) noexcept {
  const auto count =
      std::min<std::uint64_t>(board.steps.load(std::memory_order_relaxed), worker_board::step_ring_size);
  if (count == 0) return 0;
  std::array<std::uint32_t, worker_board::step_ring_size> durations;
  for (std::size_t i = 0; i < count; ++i) durations[i] = board.step_us[i].load(std::memory_order_relaxed);
  const auto end = durations.begin() + static_cast<std::ptrdiff_t>(count);
  const auto nth = durations.begin() + static_cast<std::ptrdiff_t>((count * 99 + 99) / 100 - 1);
  std::nth_element(durations.begin(), nth, end);
  return *nth * 1e-6;
}

double expected_step_seconds(const worker_board& board) noexcept {
  const auto measured = step_seconds_p99(board);
  const bool full = board.steps.load(std::memory_order_relaxed) >= worker_board::step_ring_size;
  return full ? measured : std::max(measured, board.step_floor);
}

worker_observation observe(const worker_board& board, std::uint64_t queue_capacity) {
  constexpr auto relaxed = std::memory_order_relaxed;
  worker_observation seen;
  seen.phase = board.phase.load(std::memory_order_acquire);
  seen.queue_capacity = queue_capacity;
  if (seen.phase == worker_phase::refused) seen.refusal = board.refusal;
  if (seen.phase == worker_phase::starting || seen.phase == worker_phase::refused) return seen;
  static_cast<life_signs&>(seen) = read_life_signs(board);
  seen.running = board.running.load(relaxed);
  seen.queued = board.queued.load(relaxed);
  seen.steps = board.steps.load(relaxed);
  seen.step_seconds = static_cast<double>(board.steps_us.load(relaxed)) * 1e-6;
  seen.cpu_wait_seconds = std::chrono::duration<double>(board.engine->cpu_wait()).count();
  seen.kv_blocks_used = board.kv_blocks_used.load(relaxed);
  seen.prompt_tokens = board.prompt_tokens.load(relaxed);
  seen.generated_tokens = board.generated_tokens.load(relaxed);
  seen.finished_sequences = board.finished_sequences.load(relaxed);
  seen.failed_sequences = board.failed_sequences.load(relaxed);
  seen.failed_steps = board.failed_steps.load(relaxed);
  seen.canary_runs = board.canary_runs.load(std::memory_order_acquire);
  seen.canary_ran_ns = board.canary_ran_ns.load(relaxed);
  seen.canary_hash = board.canary_hash.load(relaxed);
  seen.canary_failed = board.canary_failed.load(relaxed);
  seen.corrupted = board.engine->corrupted_weights();
  return seen;
}

engine_watch::engine_watch(engine_watch_options options, std::optional<std::uint64_t> golden)
    : options_(options),
      hang_(options.hang),
      golden_(golden),
      ended_(options.failure_window),
      error_rate_(options.error_rate_degraded_percent, options.error_rate_degraded_percent / 2),
      queue_(options.queue_degraded_ratio, options.queue_clear_ratio),
      throughput_(options.throughput) {}

std::optional<engine_verdict> engine_watch::judge_start(const worker_observation& seen) const {
  if (seen.phase == worker_phase::starting)
    return unhealthy_verdict("starting", "starting: the engine is being built");
  if (seen.phase == worker_phase::refused)
    return unhealthy_verdict("engine_refused", "the engine did not start: " + seen.refusal);
  return std::nullopt;
}

std::optional<engine_verdict> engine_watch::judge_hang(const worker_observation& seen,
                                                       steady_time now) const {
  const auto judged = hang_.judge(seen, now);
  if (!judged.suspect) return std::nullopt;
  const auto* const what = seen.phase == worker_phase::probing ? "a canary"
                           : seen.busy_since_ns != 0           ? "a forward pass"
                                                               : "an idle engine";
  auto v = unhealthy_verdict(
      "hung", fmt::format("hung: {} without {} for {:.1f} s", what,
                          seen.busy_since_ns != 0 ? "progress" : "a sign of life", seconds(judged.silence)));
  v.replace = judged.give_up;
  v.cannot_heal = judged.cannot_heal;
  return v;
}

std::optional<engine_verdict> engine_watch::judge_progress(const worker_observation& seen, steady_time now) {
  const auto work = seen.generated_tokens + seen.prompt_tokens;
  if (!work_moved_ || work != work_ || seen.running == 0) {
    work_ = work;
    work_moved_ = now;
    passes_ = seen.passes;
  }
  // Tokens are counted when their pass is over, and a pass over a long prompt takes as long as it takes: it
  // is the hang rule that says how long it may do nothing.
  const bool computes = since(now, seen.last_progress_ns) < options_.pass_silence;
  const bool turns = seen.passes - passes_ >= options_.livelock_passes;
  if (now - *work_moved_ > options_.livelock && (turns || !computes)) {
    auto v = unhealthy_verdict(
        "livelock", fmt::format("livelock: {} sequences run, but no token came for {:.0f} s", seen.running,
                                seconds(now - *work_moved_)));
    v.replace = true;
    return v;
  }
  return judge_queue(seen, computes, now);
}

std::optional<engine_verdict> engine_watch::judge_queue(const worker_observation& seen, bool computes,
                                                        steady_time now) {
  if (seen.queued == 0 || seen.running > 0)
    queue_stalled_since_.reset();
  else if (!queue_stalled_since_)
    queue_stalled_since_ = now;
  // The first pass of what was idle may be a long one; what it runs shows when it is over.
  if (queue_stalled_since_ && now - *queue_stalled_since_ > options_.stalled_queue && !computes) {
    auto v =
        unhealthy_verdict("deadlock", fmt::format("deadlock: {} sequences wait and none has run for {:.0f} s",
                                                  seen.queued, seconds(now - *queue_stalled_since_)));
    v.replace = true;
    v.cannot_heal = now - *queue_stalled_since_ > options_.hang.hard_hang;
    return v;
  }
  return std::nullopt;
}

std::optional<engine_verdict> engine_watch::judge_canary(const worker_observation& seen, steady_time now) {
  if (!ready_since_) ready_since_ = now;
  if (seen.corrupted) {
    auto v = unhealthy_verdict("weights_changed", "the weights " + *seen.corrupted + " changed in memory");
    v.wrong_results = true;
    return v;
  }
  if (seen.canary_runs == 0) {
    if (now - *ready_since_ > options_.canary_overdue)
      return unhealthy_verdict("canary_overdue",
                               "the canary (a forward pass with a known answer) has never completed");
    return std::nullopt;
  }
  if (seen.canary_failed)
    return unhealthy_verdict("canary_failed", "the canary (a forward pass with a known answer) failed");
  if (!golden_) golden_ = seen.canary_hash;
  if (seen.canary_hash != *golden_) {
    auto v = unhealthy_verdict(
        "wrong_results",
        fmt::format("wrong results: the canary gave {:016x} instead of {:016x}", seen.canary_hash, *golden_));
    v.wrong_results = true;
    return v;
  }
  const auto age = since(now, seen.canary_ran_ns);
  if (age > options_.canary_overdue)
    return unhealthy_verdict(
        "canary_overdue", fmt::format("the canary is overdue: it last completed {:.0f} s ago", seconds(age)));
  return std::nullopt;
}

std::optional<engine_verdict> engine_watch::judge_failures(const worker_observation& seen) {
  const auto failed = seen.failed_sequences - ended_.oldest().failed;
  const auto total = failed + (seen.finished_sequences - ended_.oldest().finished);
  const auto bad_steps = seen.failed_steps - ended_.oldest().failed_steps;
  if (bad_steps >= options_.failures_unhealthy && 2 * failed > total)
    return unhealthy_verdict("computations_fail",
                             fmt::format("{} of the last {} computations failed", failed, total));
  const bool too_few = total < options_.error_rate_min_sequences || bad_steps < options_.failures_unhealthy;
  const double percent = too_few ? 0 : 100 * static_cast<double>(failed) / static_cast<double>(total);
  if (error_rate_.update(percent))
    return degraded("error_rate", fmt::format("high error rate: {:.0f} % of the last {} computations failed",
                                              percent, total));
  return std::nullopt;
}

std::optional<engine_verdict> engine_watch::judge_load(const worker_observation& seen) {
  if (seen.queue_capacity == 0) return std::nullopt;
  if (!queue_.update(static_cast<double>(seen.queued) / static_cast<double>(seen.queue_capacity)))
    return std::nullopt;
  return degraded("queue_saturated", fmt::format("saturated: {} of {} places in the queue are taken",
                                                 seen.queued, seen.queue_capacity));
}

std::optional<engine_verdict> engine_watch::judge_kv(const worker_observation& seen, steady_time now) {
  // Idle all the time, not merely whenever somebody looks: requests that come one after another hold blocks.
  const bool worked = seen.finished_sequences != finished_before_;
  finished_before_ = seen.finished_sequences;
  if (seen.kv_blocks_used == 0 || seen.running != 0 || seen.queued != 0 || worked) {
    kv_held_since_.reset();
    return std::nullopt;
  }
  if (!kv_held_since_) kv_held_since_ = now;
  if (now - *kv_held_since_ < options_.kv_leak) return std::nullopt;
  return degraded("kv_leak",
                  fmt::format("{} blocks of the KV cache are held by nobody", seen.kv_blocks_used));
}

std::optional<engine_verdict> engine_watch::judge_throughput(const worker_observation& seen,
                                                             steady_time now) {
  const auto slower = throughput_.update({seen.steps, seen.prompt_tokens + seen.generated_tokens,
                                          seen.kv_blocks_used, seen.step_seconds, seen.cpu_wait_seconds},
                                         now);
  if (!slower) return std::nullopt;
  return degraded("throughput_collapse",
                  fmt::format("forward passes take {:.0f} times as long as usual", *slower));
}

engine_verdict engine_watch::judge(const worker_observation& seen, steady_time now) {
  ended_.add(now, {seen.finished_sequences, seen.failed_sequences, seen.failed_steps});
  if (auto v = judge_start(seen)) return *v;
  // Each looks at every observation, so that windows stay complete; the worst that was found first counts.
  const auto hang = judge_hang(seen, now);
  const auto progress = judge_progress(seen, now);
  const auto canary = judge_canary(seen, now);
  const auto failures = judge_failures(seen);
  const auto load = judge_load(seen);
  const auto kv = judge_kv(seen, now);
  const auto throughput = judge_throughput(seen, now);
  for (const auto* v : {&hang, &canary, &progress, &failures, &load})
    if (*v && (*v)->status == health_status::unhealthy) return **v;
  for (const auto* v : {&failures, &throughput, &kv, &load})
    if (*v) return **v;

  engine_verdict v;
  v.status = health_status::healthy;
  v.takes_requests = true;
  v.message = fmt::format("{} running, {} waiting, canary good", seen.running, seen.queued);
  if (seen.canary_runs == 0) {  // not before its first proof
    v.status = health_status::unhealthy;
    v.takes_requests = false;
    v.code = "starting";
    v.message = "starting: the first canary has not completed yet";
  }
  return v;
}

}  // namespace bitnet::actors
