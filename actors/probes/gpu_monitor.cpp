#include "actors/probes/gpu_monitor.hpp"

#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

namespace bitnet::actors {

/// Owned by the monitor and by its thread: whichever ends last.
struct gpu_monitor::shared {
  explicit shared(gpu_monitor_options o) : options(std::move(o)) {}

  void run();

  const gpu_monitor_options options;
  mutable std::mutex mutex;
  std::condition_variable stopping;
  bool stop = false;
  gpu_observation last;
  std::optional<steady_time> began;  ///< the call under way

 private:
  /// Calls what may hang, without the lock, and marks that it is under way.
  template <class F>
  auto guarded(const char* what, F call) {
    {
      const std::lock_guard lock(mutex);
      began = std::chrono::steady_clock::now();
      last.waiting_for = what;
    }
    return call();
  }
};

void gpu_monitor::shared::run() {
  auto next_canary = std::chrono::steady_clock::now();
  for (;;) {
    const auto start = std::chrono::steady_clock::now();
    auto readings = guarded("NVML", options.read);
    const auto end = std::chrono::steady_clock::now();
    {
      const std::lock_guard lock(mutex);
      began.reset();
      last.readings = std::move(readings);
      last.read = true;
      last.took = end - start;
    }
    if (options.canary && end >= next_canary) {
      auto failures = guarded("the canary kernel", options.canary);
      next_canary = std::chrono::steady_clock::now() + options.canary_period;
      const std::lock_guard lock(mutex);
      began.reset();
      last.canary_failures = std::move(failures);
      ++last.canary_runs;
    }
    std::unique_lock lock(mutex);
    if (stopping.wait_for(lock, options.period, [this] { return stop; })) return;
  }
}

gpu_monitor::gpu_monitor(gpu_monitor_options options)
    : shared_(std::make_shared<shared>(std::move(options))) {
  std::thread([keep = shared_] { keep->run(); }).detach();
}

gpu_monitor::~gpu_monitor() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stop = true;
  }
  shared_->stopping.notify_all();
}

gpu_observation gpu_monitor::observe() const {
  const std::lock_guard lock(shared_->mutex);
  auto seen = shared_->last;
  if (shared_->began) seen.waiting = std::chrono::steady_clock::now() - *shared_->began;
  return seen;
}

}  // namespace bitnet::actors
