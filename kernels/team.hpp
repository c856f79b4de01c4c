#pragma once

#include "kernels/matmul.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>

namespace bitnet::kernels {

class team;

/// The share of [0, n) of one of `size` members: contiguous, sizes differ by at most one.
work_range share_of(std::size_t n, std::size_t index, std::size_t size) noexcept;

/// What a thread of a team sees inside `team::run`.
class team_member {
 public:
  /// [0, size()); member 0 is the thread that called `run`.
  std::size_t index() const noexcept { return index_; }
  std::size_t size() const noexcept { return size_; }

  /// This member's share of [0, n).
  work_range share(std::size_t n) const noexcept { return share_of(n, index_, size_); }

  /// Returns when every member has arrived; what they wrote before is visible after. Spins for at most 50 us,
  /// yields for at most 250 us, then sleeps. All members must call it equally often.
  void barrier() noexcept;

 private:
  friend class team;
  team_member(team& owner, std::size_t index, std::size_t size) noexcept
      : owner_(owner), index_(index), size_(size) {}
  team& owner_;
  std::size_t index_;
  std::size_t size_;
};

/// A fixed number of threads that run one function together, with barriers inside: the caller of `run` and an
/// OpenMP parallel region that lasts as long as the team. Runs are not regions of their own because between
/// regions libgomp's threads spin for several milliseconds (and forever under OMP_WAIT_POLICY=active), each
/// time, which only the environment at program start can change; parked at our barrier they sleep after 300
/// us, so that an idle team costs nothing and spinning does not take the CPUs from other processes.
///
/// `run` may be called from any thread, by one at a time, and not from inside a run. Members must not throw.
class team {
 public:
  /// threads == 0: as many as this process may use (affinity and cgroup CPU quota). Throws std::system_error
  /// where the system gives no thread.
  explicit team(std::size_t threads = 0);
  ~team();
  team(const team&) = delete;
  team& operator=(const team&) = delete;

  /// What was asked for, or fewer under OMP_THREAD_LIMIT.
  std::size_t size() const noexcept { return size_; }

  /// Runs `body` on every member and returns when all are done. What happened before is visible to them, what
  /// they did is visible after.
  void run(const std::function<void(team_member&)>& body);

 private:
  friend class team_member;
  void host_region(std::size_t threads);
  void work(std::size_t index, std::size_t size);

  std::size_t size_;
  /// Threads may spin at barriers only where each has a CPU.
  bool spin_;
  /// What the members run next, or null to end; written before the barrier that starts a run.
  const std::function<void(team_member&)>* body_ = nullptr;
  /// 0 until the region has started, then its number of threads.
  std::atomic<std::uint32_t> region_threads_{0};
  /// Threads of the region that use this object no more.
  std::atomic<std::uint32_t> left_{0};
  // Apart, so that arriving does not disturb those who watch the generation.
  alignas(64) std::atomic<std::size_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> generation_{0};
  /// The first thread of the region.
  std::thread host_;
};

/// CPUs that this process may use: the affinity mask, limited by the cgroup's CPU quota (rounded up, at least
/// 1).
std::size_t usable_cpu_count();

}  // namespace bitnet::kernels
