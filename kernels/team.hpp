#pragma once

#include "kernels/matmul.hpp"

#include <atomic>
#include <cstddef>
#include <functional>

namespace bitnet::kernels {

class team;

/// What a thread of a team sees inside `team::run`.
class team_member {
 public:
  std::size_t index() const noexcept { return index_; }
  std::size_t size() const noexcept;

  /// This member's share of [0, n): contiguous, sizes differ by at most one.
  work_range share(std::size_t n) const noexcept;

  /// Returns when every member has arrived; what they wrote before is visible after. Spins briefly, then
  /// sleeps.
  void barrier() noexcept;

 private:
  friend class team;
  team_member(team& owner, std::size_t index) noexcept : owner_(owner), index_(index) {}
  team& owner_;
  std::size_t index_;
};

/// A fixed number of OpenMP threads that run one function together: one parallel region a forward pass with
/// barriers inside, instead of a region an operator (210 a token cost more than the work of a small model).
/// Owned by one thread; `run` is not reentrant. Members must not throw.
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
  std::size_t size_;
  std::atomic<std::size_t> arrived_{0};
  std::atomic<std::uint32_t> generation_{0};
};

/// CPUs that this process may use: the affinity mask, limited by the cgroup's CPU quota (rounded up, at least
/// 1).
std::size_t usable_cpu_count();

}  // namespace bitnet::kernels
