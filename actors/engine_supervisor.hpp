#pragma once

#include "actors/engine_watch.hpp"
#include "actors/interfaces.hpp"
#include "actors/introspection/instrumented.hpp"
#include "actors/restart_policy.hpp"
#include "actors/watchdog.hpp"
#include "actors/worker_board.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace bitnet::actors {

/// What is known of all workers so far. Outlives a supervisor that is restarted, so that no counter ever goes
/// backwards, and no incarnation has the number of an earlier one. One supervisor at a time.
struct engine_ledger {
  engine_sample totals;                 ///< of ended incarnations
  std::uint64_t incarnation = 0;        ///< the last one
  std::optional<std::uint64_t> golden;  ///< canary hash of `golden_model`
  std::string golden_model;             ///< identity of the weights that `golden` belongs to
  double step_floor = 0;                ///< for the next worker_board
};

struct engine_supervisor_options {
  engine::generation_options generation;
  inference_backend backend;
  aggregator_actor aggregator;
  router_actor router;
  model_supervisor_actor model;
  std::shared_ptr<watchdog>
      guard;  ///< acts where this actor would be too late; null in tests on virtual time
  std::chrono::milliseconds period{250};
  std::chrono::seconds refused_retry{30};  ///< after the engine could not be built
  restart_limits restarts;
  engine_watch_options watch;
  std::shared_ptr<engine_ledger> ledger = std::make_shared<engine_ledger>();
  bool watched = true;        ///< false: its engine runs no canary but the first, and is degraded for it
  bool detach_worker = true;  ///< false under a test scheduler
};

struct engine_supervisor_state {
  static inline const char* name = "engine-supervisor";

  engine_supervisor_actor::pointer self;
  engine_supervisor_options options;

  // The model.
  std::shared_ptr<const engine::model> model;
  std::uint64_t load = 0;
  std::optional<std::string> fence;
  std::uint64_t reload_asked = 0;     ///< load that gave wrong results
  std::uint64_t bad_incarnation = 0;  ///< the last one whose weights were found wrong

  // The worker.
  worker_actor worker;
  std::shared_ptr<worker_board> board;  ///< of the running worker; nullptr without one
  std::optional<engine_watch> watch;
  bool announced = false;
  bool cancelled = false;  ///< it was asked to end, for `end_reason`
  std::string end_reason;
  bool replacement_asked = false;        ///< the next DOWN is wanted, and no failure
  std::uint64_t restart_generation = 0;  ///< of the pending restart_atom
  std::optional<std::string> pending_restart;
  std::optional<std::string> gave_up;
  std::optional<caf::error> quitting;  ///< why, once asked to end
  steady_time started{};
  steady_time last_tick{};
  restart_policy policy;

  explicit engine_supervisor_state(engine_supervisor_actor::pointer owner) : self(owner) {}
  ~engine_supervisor_state();

  void use_model(loaded_model loaded);
  void fence_off(std::string why);
  void start_worker();
  void stop_worker();
  void on_worker_down(const caf::down_msg& down);
  void on_exit_request(caf::error reason);
  caf::result<std::string> cause_fault(const fault_request& fault);
  void tick();

 private:
  engine_ledger& ledger() const { return *options.ledger; }
  engine_verdict judge();
  void act_on(const engine_verdict& verdict, const worker_observation& seen);
  void on_wrong_results(const engine_verdict& verdict);
  bool follows_bad_weights() const;
  void ask_for_reload();
  void end_worker(const std::string& why);
  bool proved_itself() const;
  void withdraw();
  void report(const engine_verdict& verdict, std::chrono::nanoseconds took);
  engine_sample sample() const;
  void schedule_restart(std::chrono::milliseconds delay);
};

engine_supervisor_actor::behavior_type engine_supervisor(
    instrumented_pointer<engine_supervisor_actor, engine_supervisor_state> self,
    engine_supervisor_options options);

}  // namespace bitnet::actors
