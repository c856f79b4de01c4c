#include "http/thread_priority.hpp"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace bitnet::http {

namespace {

/// As sched_setattr(2) has it; glibc 2.36 declares neither this nor the calls.
struct scheduling_attributes {
  std::uint32_t size = sizeof(scheduling_attributes);
  std::uint32_t policy = SCHED_OTHER;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime = 0;
  std::uint64_t deadline = 0;
  std::uint64_t period = 0;
};

/// The kernel's least. A thread that wakes with a shorter slice than the running one's interrupts it, where
/// it has not had its share yet; with equal slices it waits for the running one's to end (milliseconds).
constexpr std::uint64_t shortest_slice_ns = 100'000;

bool make_real_time() noexcept {
  sched_param lowest{};
  lowest.sched_priority = sched_get_priority_min(SCHED_RR);
  return ::sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest) == 0;
}

/// Kernels before 6.12 ignore the slice: so it is read back.
bool make_prompt() noexcept {
  scheduling_attributes a;
  if (::syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) != 0 || a.policy != SCHED_OTHER) return false;
  a.size = sizeof a;
  a.runtime = shortest_slice_ns;
  if (::syscall(SYS_sched_setattr, 0, &a, 0) != 0) return false;
  scheduling_attributes now;
  return ::syscall(SYS_sched_getattr, 0, &now, sizeof now, 0) == 0 && now.runtime == shortest_slice_ns;
}

}  // namespace

effective_priority apply(thread_priority wanted) noexcept {
  if (wanted == thread_priority::automatic && make_real_time()) return effective_priority::real_time;
  if (wanted != thread_priority::normal && make_prompt()) return effective_priority::prompt;
  return effective_priority::normal;
}

}  // namespace bitnet::http
