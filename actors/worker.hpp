#pragma once

#include "actors/interfaces.hpp"
#include "actors/introspection/instrumented.hpp"
#include "actors/worker_board.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>

namespace bitnet::actors {

struct worker_options {
  std::shared_ptr<const engine::model> model;
  engine::generation_options generation;
  inference_backend backend;
  std::size_t device = 0;  ///< of the backend's
  std::shared_ptr<worker_board> board;
  std::function<void()> on_started;              ///< after the first canary, or the refusal; worker's thread
  std::chrono::milliseconds canary_check{1000};  ///< how often to see whether the canary is due
  std::chrono::seconds canary_idle{10};          ///< period of the canary while idle
  std::chrono::seconds canary_busy{30};          ///< and while sequences run: it costs them a pass
};

/// One accepted request. Whatever ends the worker, the sink gets its last frame: the destructor sends it.
class worker_stream {
 public:
  worker_stream(token_sink_actor sink, engine::request_id request, std::uint32_t attempt);
  worker_stream(worker_stream&&) = delete;
  ~worker_stream();

  /// Sends the event's tokens; true when it was the last.
  bool deliver(engine::generation_event& event);
  /// Sends nothing more: the sink is gone.
  void abandon() noexcept { finished_ = true; }

  const token_sink_actor& sink() const noexcept { return sink_; }
  engine::request_id request() const noexcept { return request_; }

 private:
  token_sink_actor sink_;
  engine::request_id request_;
  std::uint32_t attempt_;
  std::uint32_t seq_ = 0;
  engine::generation_usage usage_;
  bool finished_ = false;
};

struct worker_state {
  static inline const char* name = "worker";

  worker_actor::pointer self;
  worker_options options;
  inference_engine* engine = nullptr;  ///< owned by the board; nullptr until started, or refused
  std::uint64_t next_sequence = 1;     ///< the engine's ids: two attempts of one request must not collide
  std::unordered_map<engine::request_id, std::unique_ptr<worker_stream>> streams;  ///< by engine id
  std::map<caf::actor_addr, std::set<engine::request_id>> by_sink;                 ///< engine ids
  std::uint64_t engine_steps = 0;  ///< of an engine in another process, as of its last answer
  bool draining = false;
  bool step_pending = false;  ///< a step_atom is in the mailbox
  bool canary_wanted = false;
  steady_time last_canary{};

  explicit worker_state(worker_actor::pointer owner) : self(owner) {}
  ~worker_state();

  void start();
  caf::result<submit_receipt> submit(engine::generation_request request, std::uint32_t attempt,
                                     const token_sink_actor& sink);
  void cancel(engine::request_id request);
  void step();
  void run_canary_if_due();
  void on_sink_down(const caf::actor_addr& sink);
  caf::result<std::string> cause_fault(const fault_request& fault);

 private:
  void schedule_step();
  void finish(engine::request_id sequence);
  void run_canary();
  void publish_stats();
  void publish_step(steady_time began);
  bool end_if_lost();
};

worker_actor::behavior_type worker(instrumented_pointer<worker_actor, worker_state> self,
                                   worker_options options);

}  // namespace bitnet::actors
