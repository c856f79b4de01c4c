#include "kernels/team.hpp"

#include "kernels/cpu_quota.hpp"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bitnet::kernels {

namespace {

/// Longer than the usual difference between two members' shares of an operator, shorter than what a sleep and
/// a wake-up cost together.
constexpr std::chrono::microseconds spin_time{50};
/// After it, a member that waits longer lets others have its CPU, but comes back without being woken: where a
/// host takes a CPU away for a moment, that is cheaper than a sleep.
constexpr std::chrono::microseconds yield_time{250};

void pause() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

std::size_t affinity_cpu_count() {
  // The kernel's mask may be wider than cpu_set_t's 1024 CPUs: grow until it fits.
  for (int cpus = CPU_SETSIZE; cpus <= (1 << 20); cpus *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(static_cast<std::size_t>(cpus)),
                                                               [](cpu_set_t* p) { CPU_FREE(p); });
    if (!set) break;
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(cpus));
    if (sched_getaffinity(0, bytes, set.get()) == 0)
      return static_cast<std::size_t>(CPU_COUNT_S(bytes, set.get()));
  }
  return std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace

std::size_t usable_cpu_count() {
  std::size_t count = affinity_cpu_count();
  if (const auto quota = cgroup_cpu_quota("/proc/self", "/sys/fs/cgroup"))
    count = std::min(count, static_cast<std::size_t>(std::ceil(*quota)));
  return std::max<std::size_t>(1, count);
}

work_range share_of(std::size_t n, std::size_t index, std::size_t size) noexcept {
  const std::size_t each = n / size;
  const std::size_t larger = n % size;  // that many members take one more
  const std::size_t first = index * each + std::min(index, larger);
  return {first, first + each + (index < larger ? 1 : 0)};
}

void team_member::barrier() noexcept {
  if (size_ == 1) return;
  // Nobody can pass this generation before we arrive, so it is stable until then.
  const std::uint32_t generation = owner_.generation_.load(std::memory_order_relaxed);
  if (owner_.arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    owner_.arrived_.store(0, std::memory_order_relaxed);
    // Sequentially consistent, not only release: notify_all skips the wake-up where it sees no waiter, and
    // must not look before the store is visible, or a member that goes to sleep meanwhile sleeps for good.
    owner_.generation_.store(generation + 1, std::memory_order_seq_cst);
    owner_.generation_.notify_all();
    return;
  }
  if (owner_.spin_) {
    const auto deadline = std::chrono::steady_clock::now() + spin_time;
    do {
      for (int i = 0; i < 32; ++i) {
        if (owner_.generation_.load(std::memory_order_acquire) != generation) return;
        pause();
      }
    } while (std::chrono::steady_clock::now() < deadline);
    do {
      std::this_thread::yield();
      if (owner_.generation_.load(std::memory_order_acquire) != generation) return;
    } while (std::chrono::steady_clock::now() < deadline + yield_time);
  }
  owner_.generation_.wait(generation, std::memory_order_acquire);
}

team::team(std::size_t threads) : size_(threads), spin_(true) {
  const std::size_t cpus = usable_cpu_count();
  if (size_ == 0) size_ = cpus;
  spin_ = size_ <= cpus;
  if (size_ == 1) return;
  host_ = std::thread([this, region_threads = size_ - 1] { host_region(region_threads); });
  region_threads_.wait(0, std::memory_order_acquire);
  size_ = 1 + region_threads_.load(std::memory_order_acquire);
}

team::~team() {
  if (size_ == 1) return;
  body_ = nullptr;
  team_member(*this, 0, size_).barrier();
  host_.join();
  // The join has ordered the host alone; libgomp orders the others, unseen by ThreadSanitizer.
  left_.load(std::memory_order_acquire);
}

// Not instrumented, because the compiler passes `this` to the threads through libgomp's own synchronisation,
// which ThreadSanitizer cannot see. The region inherits the attributes of this function.
#if defined(__SANITIZE_THREAD__)
__attribute__((no_sanitize("thread")))
#endif
void team::host_region(std::size_t threads) {
  omp_set_dynamic(0);
#pragma omp parallel num_threads(static_cast <int>(threads))
  work(1 + static_cast<std::size_t>(omp_get_thread_num()),
       1 + static_cast<std::size_t>(omp_get_num_threads()));
}

void team::work(std::size_t index, std::size_t size) {
  if (index == 1) {
    region_threads_.store(static_cast<std::uint32_t>(size - 1),
                          std::memory_order_seq_cst);  // as in barrier()
    region_threads_.notify_one();
  }
  team_member me(*this, index, size);
  for (;;) {
    me.barrier();  // the caller of run() arrives here when there is something to do
    if (body_ == nullptr) break;
    (*body_)(me);
    me.barrier();
  }
  left_.fetch_add(1, std::memory_order_release);
}

void team::run(const std::function<void(team_member&)>& body) {
  team_member me(*this, 0, size_);
  body_ = &body;
  me.barrier();
  body(me);
  me.barrier();
}

}  // namespace bitnet::kernels
