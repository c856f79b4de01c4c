#include "actors/watchdog.hpp"

#include <pthread.h>

#include <utility>

namespace bitnet::actors {

namespace {

constexpr auto relaxed = std::memory_order_relaxed;
/// The watchdog itself was kept from running where a look comes later than expected by more than this.
constexpr std::chrono::milliseconds own_delay{1000};

}  // namespace

void watch_round::add(std::shared_ptr<worker_board> board) {
  all_.push_back({std::move(board), hang_rule(limits_)});
}

void watch_round::remove(const worker_board& board) {
  std::erase_if(all_, [&](const watched& each) { return each.board.get() == &board; });
}

void watch_round::look(steady_time now) noexcept {
  const bool was_late = last_look_ != steady_time{} && now - last_look_ > period_ + own_delay;
  last_look_ = now;
  for (auto& each : all_) {
    if (was_late) each.rule.forgive(now);
    look_at(each, now);
  }
}

void watch_round::look_at(watched& each, steady_time now) const noexcept {
  auto& board = *each.board;
  const auto phase = board.phase.load(std::memory_order_acquire);
  if (phase == worker_phase::starting || phase == worker_phase::refused) return;
  if (!board.engine->alive()) {
    board.suspect.store(true, relaxed);
    // Its worker may be waiting for requests, and would not look for a while.
    if (!board.end_noticed.exchange(true, relaxed) && board.wake_worker) board.wake_worker();
    return;
  }
  const auto judged = each.rule.judge(read_life_signs(board), now);
  board.suspect.store(judged.suspect, relaxed);
  // A process that was stopped needs no more time to show that it hangs.
  const bool stopped = judged.suspect && board.engine->stopped();
  if ((!judged.give_up && !stopped) || board.given_up.exchange(true, relaxed)) return;
  board.hung.store(!stopped, relaxed);
  board.engine->give_up();
}

watchdog::watchdog(hang_limits limits, std::chrono::milliseconds period)
    : period_(period), round_(limits, period), thread_([this] { run(); }) {}

watchdog::~watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void watchdog::watch(std::shared_ptr<worker_board> board) {
  const std::lock_guard lock(mutex_);
  round_.add(std::move(board));
}

void watchdog::forget(const worker_board& board) {
  const std::lock_guard lock(mutex_);
  round_.remove(board);
}

void watchdog::run() {
  pthread_setname_np(pthread_self(), "watchdog");
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, period_, [this] { return stop_; }))
    round_.look(std::chrono::steady_clock::now());
}

}  // namespace bitnet::actors
