#pragma once

#include "kernels/matmul.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace bitnet::kernels {

class team;

/// What a thread of a team sees inside `team::run`.
class team_member {
 public:
  /// [0, size()); member 0 is the thread that called `run`.
  std::size_t index() const noexcept { return index_; }
  /// Members of this run: team::size(), or fewer where OpenMP's limits (OMP_THREAD_LIMIT, OMP_DYNAMIC) say
  /// so.
  std::size_t size() const noexcept { return size_; }

  /// This member's share of [0, n): contiguous, sizes differ by at most one.
  work_range share(std::size_t n) const noexcept;

  /// Returns when every member has arrived; what they wrote before is visible after. Spins briefly, then
  /// sleeps. All members must call it equally often.
  void barrier() noexcept;

 private:
  friend class team;
  team_member(team& owner, std::size_t index, std::size_t size) noexcept
      : owner_(owner), index_(index), size_(size) {}
  team& owner_;
  std::size_t index_;
  std::size_t size_;
};

/// A fixed number of OpenMP threads that run one function together: one parallel region a forward pass with
/// barriers inside, instead of a region an operator (210 a token cost more than the work of a small model).
/// Owned by one thread; `run` is not reentrant. Members must not throw. Between runs the threads belong to
/// libgomp, which lets them spin for a few milliseconds and then sleep, unless OMP_WAIT_POLICY=active or
/// GOMP_SPINCOUNT asks for more.
class team {
 public:
  /// threads == 0: as many as this process may use (affinity and cgroup CPU quota).
  explicit team(std::size_t threads = 0);
  team(const team&) = delete;
  team& operator=(const team&) = delete;

  std::size_t size() const noexcept { return size_; }

  /// Runs `body` on every member and returns when all are done.
  void run(const std::function<void(team_member&)>& body);

 private:
  friend class team_member;
  void run_region(const std::function<void(team_member&)>& body);
  void run_member(const std::function<void(team_member&)>& body, std::size_t index, std::size_t size);

  std::size_t size_;
  /// Threads may spin at barriers only where each has a CPU.
  bool spin_;
  // Apart, so that arriving does not disturb those who watch the generation.
  alignas(64) std::atomic<std::size_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> generation_{0};
  /// Orders what the caller did before a run before what the members do, and what they did before its return:
  /// libgomp does it too, but ThreadSanitizer cannot see that.
  alignas(64) std::atomic<std::uint32_t> published_{0};
};

/// CPUs that this process may use: the affinity mask, limited by the cgroup's CPU quota (rounded up, at least
/// 1).
std::size_t usable_cpu_count();

}  // namespace bitnet::kernels
