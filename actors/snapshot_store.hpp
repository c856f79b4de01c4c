#pragma once

#include "actors/health.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace bitnet::actors {

/// The endpoints whose answers are rendered when a snapshot is published.
enum class probe : std::uint8_t {
  health,
  live,
  ready,
  metrics,
  history,  ///< health with its history
  events,   ///< the history alone
};
inline constexpr std::size_t probe_count = 6;

/// A complete HTTP/1.1 answer in three pieces: one of two headers, and the body (left out for HEAD).
struct rendered_answer {
  std::string header_keep_alive;
  std::string header_close;
  std::string body;
};

/// All answers of one snapshot.
struct rendered_snapshot {
  std::array<rendered_answer, probe_count> answers;  ///< by probe; `live` as it is after the grace
  rendered_answer live_in_grace;
  steady_time stamp{};                           ///< when it was published
  steady_time grace_end{};                       ///< until then liveness answers `live_in_grace`
  std::shared_ptr<const health_snapshot> facts;  ///< what the answers say, for those who want more of it
};

/// Holds the latest rendered snapshot: one writer replaces it, any number of threads copy answers out of it.
///
/// Readers are wait-free: two fetch_adds on a counter, four loads and the copy; no lock, no loop, no
/// allocation beyond `out`'s own growth, no per-thread registration. A reader that announces itself in one of
/// two counters before it loads the pointer can only hold a snapshot that was current after the announcement;
/// a replaced snapshot is freed once both counters have been seen at zero since its replacement (the two
/// counters of sleepable RCU, McKenney 2006, without its wait: the writer looks at each publication and frees
/// later what is not free yet).
class snapshot_store {
 public:
  using clock = std::function<steady_time()>;  ///< must not block; the default is steady_clock::now

  /// Older snapshots are answered with 503: who should have replaced them is stuck.
  static constexpr std::chrono::seconds stale_after{2};

  /// Replaced snapshots that readers may still hold, at most; see `publish`.
  static constexpr std::size_t max_retired = 256;

  explicit snapshot_store(clock now = {});
  ~snapshot_store();  ///< no reader may be inside
  snapshot_store(const snapshot_store&) = delete;
  snapshot_store& operator=(const snapshot_store&) = delete;

  /// Replaces the snapshot. One thread at a time. Never waits for readers. Where a reader has not come back
  /// for `max_retired` publications the call refuses (false), which bounds memory and lets the snapshot go
  /// stale.
  bool publish(std::unique_ptr<const rendered_snapshot> next);

  /// Appends the complete answer (no body with `head`) to `out`. Any thread, wait-free. Before the first
  /// publication, and from `stale_after` past the latest on, the answer is a 503 that says that the
  /// aggregator is stuck.
  void append_answer(probe which, bool head, bool keep_alive, std::string& out) const;

  /// The facts of the latest snapshot, however old, and their age. Any thread; as `append_answer`.
  struct latest_facts {
    std::shared_ptr<const health_snapshot> facts;  ///< null before the first publication
    std::chrono::nanoseconds age{};
  };
  latest_facts facts() const;

  /// Replaced snapshots not yet freed; for tests. Writer's thread.
  std::size_t retired_count() const noexcept { return retired_.size(); }

 private:
  // Readers spread over stripes, so that probes on many cores do not fight for one cache line.
  struct alignas(64) stripe {
    std::array<std::atomic<std::uint64_t>, 2> readers{};
  };
  static constexpr std::size_t stripe_count = 16;

  struct retired {
    std::unique_ptr<const rendered_snapshot> snapshot;
    std::uint64_t generation;
  };

  /// A reader's announcement, while it lives.
  class reader {
   public:
    explicit reader(const snapshot_store& store);
    ~reader();
    reader(const reader&) = delete;
    reader& operator=(const reader&) = delete;

   private:
    std::atomic<std::uint64_t>& counter_;
  };

  bool drained(std::size_t parity) const noexcept;
  void reclaim();

  clock now_;
  mutable std::array<stripe, stripe_count> stripes_;
  std::atomic<std::uint32_t> parity_{0};
  std::atomic<const rendered_snapshot*> current_{nullptr};

  // The writer's own.
  std::deque<retired> retired_;
  std::uint64_t generation_ = 0;                 ///< publications so far
  std::array<std::uint64_t, 2> seen_zero_at_{};  ///< generation when each counter was last seen at zero
};

}  // namespace bitnet::actors
