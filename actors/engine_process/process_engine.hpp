#pragma once

#include "actors/engine_process/frame_channel.hpp"
#include "actors/engine_process/shared_memory.hpp"
#include "actors/inference_engine.hpp"
#include "engine/grammar/matcher.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

namespace bitnet::actors {

/// A running engine process, as its maker hands it over.
struct engine_connection {
  descriptor socket;
  shared_object<engine_signs> signs;
  descriptor process;  ///< pidfd
  pid_t pid = 0;
  /// How the process ended, as a sentence ("was killed by signal 9"). Called once, after its end; may wait
  /// for a fraction of a second.
  std::function<std::string()> exit_reason;
};

/// An engine in a process of its own. The process computes ahead: while this side delivers the events of one
/// step, the next runs already, so that no step waits for a message. submit() and cancel() do not wait
/// either; what only the process can refuse comes back as the sequence's last event.
class process_engine final : public inference_engine {
 public:
  /// Waits until the engine is built, up to `limit`. `model`: what describe_model() gave. Refuses with what
  /// the engine says, or says how the process ended.
  static engine::result<std::unique_ptr<process_engine>> connect(engine_connection connection,
                                                                 std::shared_ptr<const engine::model> model,
                                                                 const engine::generation_options& options,
                                                                 std::chrono::milliseconds limit);
  /// Kills the process: whoever lets go of an engine wants its memory and cores back.
  ~process_engine() override;

  engine::result<void> submit(engine::generation_request request) override;
  void cancel(engine::request_id id) override;
  std::vector<engine::generation_event> step() override;
  bool idle() const noexcept override { return sequences_.empty() && batches_.empty(); }
  engine::generation_stats stats() const noexcept override;
  engine::result<std::uint64_t> probe_hash() override;
  fault_outcome cause_fault(const fault_request& fault) override;
  std::optional<std::string> lost() override;

  engine::progress& progress() noexcept override { return connection_.signs->progress; }
  std::int64_t heartbeat_ns() const noexcept override;
  bool alive() const noexcept override;
  bool stopped() const noexcept override;
  std::chrono::nanoseconds cpu_wait() const noexcept override {
    return std::chrono::nanoseconds(connection_.signs->cpu_wait_ns.load(std::memory_order_relaxed));
  }
  void give_up() noexcept override;
  bool killable() const noexcept override { return true; }
  pid_t process_id() const noexcept override { return connection_.pid; }
  std::optional<std::string> corrupted_weights() const override;

 private:
  process_engine(engine_connection connection, std::shared_ptr<const engine::model> model,
                 const engine::generation_options& options);

  bool send(frame_kind kind);
  std::optional<frame> await_frame();
  std::optional<frame> await_answer(frame_kind expected);
  bool keep(const frame& f);
  engine::result<void> check_schema(const engine::generation_request& request);
  void fail(std::string why);

  engine_connection connection_;
  frame_channel channel_;
  std::shared_ptr<const engine::model> model_;  ///< its description: the weights are in the process
  engine::grammar::schema_cache schemas_;       ///< to refuse bad schemas at once
  std::size_t capacity_;                        ///< sequences that run or wait
  byte_writer out_;
  engine::generation_stats stats_;                    ///< as of the last batch
  std::uint64_t submitted_ = 0;                       ///< frames sent
  std::uint64_t submissions_seen_ = 0;                ///< by the process, as of the last batch
  std::unordered_set<engine::request_id> sequences_;  ///< without a last event yet
  std::deque<event_batch> batches_;                   ///< that came while something else was waited for
  std::optional<std::string> lost_;
  std::atomic<bool> given_up_{false};
  descriptor wake_;  ///< eventfd: give_up() was called
  descriptor stat_;  ///< /proc/PID/stat, opened while the process was surely that one
};

}  // namespace bitnet::actors
