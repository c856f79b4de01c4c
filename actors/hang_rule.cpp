#include "actors/hang_rule.hpp"

#include "actors/worker_board.hpp"

#include <algorithm>

namespace bitnet::actors {

namespace {

steady_time at(std::int64_t ns) noexcept {
  return steady_time(std::chrono::nanoseconds(ns));
}

}  // namespace

life_signs read_life_signs(const worker_board& board) noexcept {
  constexpr auto relaxed = std::memory_order_relaxed;
  life_signs signs;
  signs.killable = board.engine->killable();
  signs.busy_since_ns = board.busy_since_ns.load(relaxed);
  signs.last_progress_ns = board.engine->progress().last_progress_ns.load(relaxed);
  signs.passes = board.engine->progress().step.load(relaxed);
  signs.heartbeat_ns = board.engine->heartbeat_ns();
  signs.step_seconds_p99 = expected_step_seconds(board);
  return signs;
}

hang_judgement hang_rule::judge(const life_signs& signs, steady_time now) const noexcept {
  hang_judgement judged;
  // Without a heartbeat an engine is silent whenever nobody asks it for something, and progress from before
  // this piece of work says nothing about it.
  if (signs.heartbeat_ns == 0 && signs.busy_since_ns == 0) return judged;
  const auto last = std::max({at(signs.last_progress_ns), not_before_,
                              at(signs.heartbeat_ns != 0 ? signs.heartbeat_ns : signs.busy_since_ns)});
  const auto ten_steps = std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(10 * signs.step_seconds_p99));
  const auto limit = std::clamp<std::chrono::nanoseconds>(ten_steps, limits_.min_hang, limits_.max_hang);
  judged.silence = now - last;
  judged.suspect = judged.silence > limit;
  judged.give_up =
      judged.silence >
      (signs.killable ? limit * 3 / 2 : std::max<std::chrono::nanoseconds>(3 * limit, limits_.min_replace));
  judged.cannot_heal = judged.silence > limits_.hard_hang;
  return judged;
}

}  // namespace bitnet::actors
