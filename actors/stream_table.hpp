#pragma once

#include "actors/resumable_stream.hpp"

#include <chrono>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

namespace bitnet::actors {

struct resume_options {
  std::chrono::milliseconds new_request_wait{5000};  ///< a new request waits so long for a worker
  std::chrono::milliseconds resume_wait{60000};      ///< one that had a worker waits so long for the next
  std::chrono::milliseconds retry_delay{100};        ///< after a refusal by a full worker
  std::chrono::milliseconds failed_retry_delay{
      2000};  ///< after a failed computation: a broken worker is gone by then
  std::chrono::milliseconds trial_patience{2000};  ///< a suspect waits so long for the others' first tokens
  unsigned quarantine_after = 2;                   ///< deaths of workers that only one request explains
};

/// A run of a worker: its id and incarnation.
struct worker_run {
  std::uint64_t worker = 0;
  std::uint64_t incarnation = 0;
  auto operator<=>(const worker_run&) const = default;
};

/// All streams of a router and their order. Knows no actor and no clock.
///
/// After a death of a worker its streams are submitted again in this order: those that had got something from
/// it, at once; suspects one at a time, each as soon as all others in flight have got a token, so that a
/// death then has one explanation only; new requests after them. Nobody is held back for long: suspects go
/// after `trial_patience`, new requests after `new_request_wait`. A request that is the only explanation of
/// `quarantine_after` deaths in a row without a token in between is given up.
class stream_table {
 public:
  using key = std::uint64_t;

  explicit stream_table(resume_options options = {}) : options_(options) {}

  /// A stream that waits for its first submission.
  key add(engine::generation_request request, std::uint32_t client_attempt, steady_time now);
  resumable_stream* find(key k);
  void erase(key k);
  /// The worker that has the stream, or had it last.
  worker_run at(key k) const { return streams_.at(k).at; }

  /// Whom to submit now: call until it says nobody, and each time begin() or erase() the stream that it
  /// names.
  std::optional<key> next(steady_time now);

  /// Submits to this worker.
  engine::generation_request begin(key k, worker_run to);

  /// The worker has ended: all that it had wait again. Returns those to be given up (quarantined), which the
  /// caller fails and erases. `batch`: sequences that it runs together; those beyond only waited in its queue
  /// and did nothing. 0: it has no queue.
  std::vector<key> lose_worker(worker_run which, steady_time now, std::uint64_t batch = 0);

  /// One attempt has ended without the worker's end (frames lost, computation failed, no answer).
  void lose(key k, steady_time now, std::chrono::milliseconds delay = {});
  /// A worker was full.
  void postpone(key k, steady_time now);

  /// Streams whose wait is over while no worker has been there since `without_worker`.
  std::vector<key> expired(steady_time now, steady_time without_worker) const;

  std::size_t size() const noexcept { return streams_.size(); }
  std::size_t waiting() const noexcept { return waiting_.size(); }

  const resume_options& options() const noexcept { return options_; }

 private:
  struct entry {
    resumable_stream stream;
    worker_run at;
    steady_time waiting_since{};
  };

  /// Nothing in flight that has got no token yet.
  bool all_proven() const;

  resume_options options_;
  key last_key_ = 0;
  std::map<key, entry> streams_;  ///< by age
  std::set<key> waiting_;
  std::set<key> on_trial_;  ///< suspects that were submitted, until they are seen to be none any more
};

}  // namespace bitnet::actors
