#include "actors/engine_process/scrub_thread.hpp"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>

namespace bitnet::actors {

namespace {

/// One piece: about 0.1 ms.
constexpr std::uint64_t slice_bytes = std::uint64_t{1} << 20;
/// Small models are not read more often than this in full.
constexpr std::chrono::seconds least_round{10};

constexpr int lowest_priority = 19;

void publish(engine_signs& signs, const std::string& region) {
  if (signs.corrupted.load(std::memory_order_relaxed)) return;
  const auto length = std::min(region.size(), engine_signs::region_bytes - 1);
  std::memcpy(signs.corrupted_region, region.data(), length);
  signs.corrupted_region[length] = '\0';
  signs.corrupted.store(true, std::memory_order_release);
}

}  // namespace

scrub_thread::scrub_thread(engine::weight_scrubber& scrubber, engine_signs& signs,
                           std::uint64_t bytes_per_second)
    : scrubber_(scrubber), signs_(signs) {
  if (bytes_per_second != 0) thread_ = std::thread([this, bytes_per_second] { run(bytes_per_second); });
}

scrub_thread::~scrub_thread() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  condition_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void scrub_thread::run(std::uint64_t bytes_per_second) {
  pthread_setname_np(pthread_self(), "scrub");
  // Not SCHED_IDLE: on a busy machine it would keep a lock of malloc, which forward passes also need, for
  // seconds.
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), lowest_priority);
  const auto slices = std::max<std::uint64_t>(scrubber_.total_bytes() / slice_bytes, 1);
  const auto pause = std::max<std::chrono::nanoseconds>(
      std::chrono::nanoseconds(std::uint64_t{1'000'000'000} * slice_bytes / bytes_per_second),
      std::chrono::nanoseconds(least_round) / slices);
  std::unique_lock lock(mutex_);
  while (!condition_.wait_for(lock, pause, [this] { return stop_; })) {
    lock.unlock();
    if (const auto region = scrubber_.step(slice_bytes)) publish(signs_, *region);
    signs_.scrub_rounds.store(scrubber_.completed_rounds(), std::memory_order_relaxed);
    lock.lock();
  }
}

}  // namespace bitnet::actors
