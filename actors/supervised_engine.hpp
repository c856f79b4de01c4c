#pragma once

#include "actors/engine_watch.hpp"
#include "actors/inference_engine.hpp"
#include "actors/interfaces.hpp"
#include "actors/restart_policy.hpp"
#include "actors/watchdog.hpp"
#include "actors/worker_board.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::actors {

/// What is known of all workers so far. Outlives a supervisor that is restarted, so that no counter ever goes
/// backwards, and no incarnation has the number of an earlier one. One supervisor at a time.
struct engine_ledger {
  /// Of one worker.
  struct place {
    std::uint64_t incarnation = 0;  ///< the last one
    double step_floor = 0;          ///< for the next worker_board
  };
  /// Of one model's workers.
  struct slot {
    std::optional<std::uint64_t> golden;  ///< canary hash of `golden_model`, on every device
    std::string golden_model;             ///< identity of the weights that `golden` belongs to
    std::map<std::size_t, place> places;  ///< by device
  };
  engine_sample totals;  ///< of ended incarnations
  std::map<std::uint64_t, slot> slots;
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

/// Adds the work of an incarnation to `sum`.
void add_work(engine_sample& sum, const worker_board& board);

class supervised_engine;
/// The engines of one model: one a device.
using model_engines = std::vector<std::unique_ptr<supervised_engine>>;

/// An engine of one model on one device: its worker, watched and replaced as long as the model is wanted. A
/// part of the engine supervisor, and used by that alone.
class supervised_engine {
 public:
  /// `self`, `options` and `siblings` (the model's engines, this one among them) must outlive it. `device`:
  /// index of the backend's.
  supervised_engine(engine_supervisor_actor::pointer self, const engine_supervisor_options& options,
                    std::uint64_t slot, model_role role, std::size_t device, const model_engines& siblings);
  ~supervised_engine();
  supervised_engine(const supervised_engine&) = delete;
  supervised_engine& operator=(const supervised_engine&) = delete;

  std::uint64_t slot() const noexcept { return slot_; }
  /// Of its workers' boards.
  std::uint64_t worker_id() const noexcept { return worker_id_; }
  /// "cuda:0"; empty where the backend names no devices.
  std::string_view device_name() const noexcept;
  model_role role() const noexcept { return role_; }
  /// One that failed as a candidate gets another chance once it is to serve.
  void set_role(model_role role);

  void use_model(std::shared_ptr<const engine::model> model, std::uint64_t load);
  /// Nobody may use the model any more (why), until the next one.
  void fence_off(std::string why);
  /// Ends the worker and starts no other.
  void end();

  /// The delay after a failure is over (generation; others are stale and ignored).
  void restart(std::uint64_t generation);
  bool owns(const caf::actor_addr& worker) const { return worker_ && worker == worker_.address(); }
  /// Of the worker, which this engine owns.
  void on_worker_down(const caf::down_msg& down);

  /// Looks at the worker and does what is to be done.
  engine_verdict judge();

  bool has_worker() const noexcept { return worker_ != nullptr; }
  /// end() was called, and the worker is gone.
  bool ended() const noexcept { return ending_ && !worker_; }
  /// The router sends it requests.
  bool announced() const noexcept { return announced_; }
  /// Why a candidate does not work; nothing while it may.
  const std::optional<std::string>& failure() const noexcept { return failure_; }
  const worker_actor& worker() const noexcept { return worker_; }
  const engine::model* model() const noexcept { return model_.get(); }
  /// Of the running worker; null without one.
  const worker_board* board() const noexcept { return board_.get(); }

 private:
  void start_worker();
  void stop_worker();
  void end_worker(const std::string& why);
  void withdraw();
  bool proved_itself() const;
  bool gives_right_results() const;
  bool sibling_proves_weights() const;
  void act_on(const engine_verdict& verdict, const worker_observation& seen);
  void reject_if_broken(const engine_verdict& verdict, const worker_observation& seen);
  void on_wrong_results(const engine_verdict& verdict);
  bool follows_bad_weights() const;
  void ask_for_reload();

  engine_supervisor_actor::pointer self_;
  const engine_supervisor_options& options_;
  engine_ledger::slot& known_;   ///< of the ledger
  engine_ledger::place& place_;  ///< of the same
  const model_engines& siblings_;
  const std::uint64_t slot_;
  const std::size_t device_;
  const std::uint64_t worker_id_;
  model_role role_;

  // The model.
  std::shared_ptr<const engine::model> model_;
  std::uint64_t load_ = 0;
  std::optional<std::string> fence_;
  std::uint64_t reload_asked_ = 0;     ///< load that gave wrong results
  std::uint64_t bad_incarnation_ = 0;  ///< the last one whose weights were found wrong

  // The worker.
  worker_actor worker_;
  std::shared_ptr<worker_board> board_;  ///< of the running worker; nullptr without one
  std::optional<engine_watch> watch_;
  bool announced_ = false;
  bool cancelled_ = false;  ///< it was asked to end, for `end_reason_`
  std::string end_reason_;
  bool ending_ = false;                   ///< no other worker is started
  bool replacement_asked_ = false;        ///< the next DOWN is wanted, and no failure
  std::uint64_t restart_generation_ = 0;  ///< of the pending restart_atom
  std::optional<std::string> pending_restart_;
  std::optional<std::string> gave_up_;
  std::optional<std::string> failure_;
  steady_time started_{};
  steady_time last_look_{};
  restart_policy policy_;
};

}  // namespace bitnet::actors
