#pragma once

#include "actors/introspection/message_kind.hpp"
#include "actors/introspection/stuck_actor.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::actors {

struct process_slot;

/// Who an actor is, as it tells the table when it is spawned.
struct process_identity {
  std::uint64_t id = 0;
  std::uint64_t parent = 0;  ///< 0: none
  std::string_view name;
  std::uint64_t incarnation = 1;  ///< grows by 1 with each restart
  bool supervised = false;        ///< someone starts it again when it ends
};

/// One actor as a reader saw it. Times in nanoseconds; figures of one moment may be a message apart.
struct process_record {
  std::uint64_t id = 0;
  std::uint64_t parent = 0;
  std::string name;
  std::int64_t age_ns = 0;
  std::uint64_t incarnation = 1;
  bool supervised = false;
  std::string last_error;  ///< why the incarnation before ended, where that was a failure

  std::uint64_t enqueued = 0;
  std::uint64_t done = 0;
  std::uint64_t depth = 0;  ///< in the mailbox, without the message in hand
  std::uint64_t high_water = 0;
  std::int64_t oldest_wait_ns = 0;  ///< of the message that is next; at least that where the mailbox is deep

  message_kind current;          ///< the message in hand
  std::int64_t running_ns = 0;   ///< for so long; 0: none in hand
  std::int64_t patience_ns = 0;  ///< longer than this is suspect
  std::int64_t thread = 0;       ///< the kernel's id of the thread that handles it, or handled the last one

  // Over the last 10 to 20 seconds, or the actor's life where that is shorter.
  double rate = 0;  ///< messages a second
  double busy_percent = 0;
  std::int64_t handling_p99_ns = 0;
  std::int64_t waiting_p50_ns = 0;
  std::int64_t waiting_p99_ns = 0;

  struct handled {
    message_kind kind;
    std::int64_t ago_ns = 0;
    std::int64_t took_ns = 0;
  };
  std::vector<handled> last;  ///< newest first

  /// In one handler, or with a message that nobody takes out of the mailbox, for longer than its patience.
  bool suspect() const noexcept { return running_ns > patience_ns || oldest_wait_ns > patience_ns; }
};

/// The end of an actor that was no ordinary one.
struct process_failure {
  std::uint64_t id = 0;
  std::string name;
  std::uint64_t incarnation = 1;
  std::string reason;
  std::chrono::system_clock::time_point time{};
};

/// What every instrumented actor shows of itself, readable at any time and by any thread, because no actor is
/// asked: a hung one is as visible as any other.
///
/// The path of a message takes no lock and allocates nothing: about ten relaxed stores and three readings of
/// the clock. Readers neither lock nor wait, and never hold up a writer. Slots are fixed in number, allocated
/// when first needed and then used again; actors beyond them are counted, not shown.
class process_table {
 public:
  using clock = std::function<std::int64_t()>;  ///< nanoseconds, steady

  static constexpr std::chrono::seconds window{10};
  static constexpr std::chrono::seconds default_patience{2};
  static constexpr std::size_t kept_failures = 128;

  explicit process_table(std::size_t capacity = 4096, clock now = {});  ///< default: steady_clock
  ~process_table();
  process_table(const process_table&) = delete;
  process_table& operator=(const process_table&) = delete;

  // For the actors. A slot belongs to its actor from `add` to `remove`; nullptr where the table is full.
  process_slot* add(const process_identity& who);
  void rename(process_slot& slot, std::string_view name) noexcept;
  /// For how long its handlers may run, and its messages wait, before it counts as suspect.
  void set_patience(process_slot& slot, std::chrono::nanoseconds patience) noexcept;
  /// A message comes into the mailbox. Any thread.
  void arrived(process_slot& slot) noexcept;
  /// The actor's thread takes a message in hand, and lets go of it. Not `consumed`: it stays in the mailbox.
  void begin(process_slot& slot, const message_kind& kind) noexcept;
  void end(process_slot& slot, bool consumed) noexcept;
  /// The actor ended; an empty reason is an ordinary end. It is not shown any more.
  void ended(process_slot& slot, const std::string& reason);
  /// Nobody can send to it any more.
  void remove(process_slot& slot) noexcept;

  // For readers.
  std::vector<process_record> read() const;
  std::vector<process_failure> failures() const;  ///< newest last
  /// The actor that has been stuck for longest, where that is at least `limit`; those with a name in `except`
  /// may be. Costs some nanoseconds an actor.
  std::optional<stuck_actor> longest_stuck(std::chrono::nanoseconds limit,
                                           std::initializer_list<std::string_view> except = {}) const;
  std::uint64_t overflowed() const noexcept { return overflowed_.load(std::memory_order_relaxed); }
  /// Slots that take memory: as many as there were actors at a time.
  std::size_t allocated() const noexcept { return allocated_.load(std::memory_order_relaxed); }

 private:
  process_slot* take();
  std::optional<process_record> read(const process_slot& slot, std::int64_t now) const;
  std::int64_t now() const { return clock_ ? clock_() : steady_now(); }
  static std::int64_t steady_now() noexcept;
  std::string last_failure_of(std::string_view name) const;

  clock clock_;
  std::vector<std::atomic<process_slot*>> slots_;
  std::atomic<std::size_t> allocated_{0};  ///< the first of slots_
  /// Those of them that are free, last in, first out: place + 1 of the first below, 0 where there is none;
  /// above a count of changes, by which a compare-and-swap sees that the list was another one meanwhile.
  std::atomic<std::uint64_t> free_{0};
  std::atomic<std::uint64_t> overflowed_{0};
  mutable std::mutex failures_mutex_;  ///< taken when an actor fails or is restarted, never by a message
  std::deque<process_failure> failures_;
};

}  // namespace bitnet::actors
