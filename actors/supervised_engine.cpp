#include "actors/supervised_engine.hpp"

#include "actors/introspection/instrumented.hpp"
#include "actors/worker.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace bitnet::actors {

namespace {

constexpr auto relaxed = std::memory_order_relaxed;
constexpr std::chrono::milliseconds own_delay{1000};

std::string weights_identity(const engine::model& model) {
  return fmt::format("{}:{}:{}", model.path.string(), model.file_bytes, model.created);
}

/// A successor knows from the start how long steps take here. One that was killed for its silence may have
/// been at a pass that takes this machine so long: the next one gets twice the time, or it would end the same
/// way.
double next_step_floor(const worker_board& board) {
  constexpr double least = 0.4;
  constexpr double most = 3;  // where the limit of silence has its ceiling
  const auto expected = expected_step_seconds(board);
  return board.hung.load(relaxed) ? std::clamp(2 * expected, least, most) : expected;
}

}  // namespace

void add_work(engine_sample& sum, const worker_board& board) {
  sum.prompt_tokens += board.prompt_tokens.load(relaxed);
  sum.cached_tokens += board.cached_tokens.load(relaxed);
  sum.generated_tokens += board.generated_tokens.load(relaxed);
  sum.preemptions += board.preemptions.load(relaxed);
  sum.steps += board.steps.load(relaxed);
  sum.failed_sequences += board.failed_sequences.load(relaxed);
  sum.canary_runs += board.canary_runs.load(relaxed);
}

supervised_engine::supervised_engine(engine_supervisor_actor::pointer self,
                                     const engine_supervisor_options& options, std::uint64_t slot,
                                     model_role role, std::size_t device, const model_engines& siblings)
    : self_(self),
      options_(options),
      known_(options.ledger->slots[slot]),
      place_(known_.places[device]),
      siblings_(siblings),
      slot_(slot),
      device_(device),
      worker_id_(slot * std::max<std::size_t>(options.backend.devices.size(), 1) + device),
      role_(role),
      policy_(options.restarts) {}

supervised_engine::~supervised_engine() {
  if (options_.guard && board_) options_.guard->forget(*board_);
  if (board_) add_work(options_.ledger->totals, *board_);
  // The worker is the supervisor's child: it ends with it, also where that one is killed.
  if (worker_) caf::anon_send_exit(worker_, caf::exit_reason::user_shutdown);
}

std::string_view supervised_engine::device_name() const noexcept {
  const auto& names = options_.backend.devices;
  return device_ < names.size() ? std::string_view(names[device_]) : std::string_view();
}

void supervised_engine::set_role(model_role role) {
  role_ = role;
  if (role != model_role::serving || !failure_) return;
  failure_.reset();
  if (worker_)
    stop_worker();  // its DOWN starts the next
  else
    start_worker();
}

void supervised_engine::use_model(std::shared_ptr<const engine::model> model, std::uint64_t load) {
  if (auto identity = weights_identity(*model); identity != known_.golden_model) {
    known_.golden_model = std::move(identity);
    known_.golden.reset();
    for (auto& [device, place] : known_.places) place.step_floor = 0;
  }
  model_ = std::move(model);
  load_ = load;
  fence_.reset();
  if (worker_)
    stop_worker();  // its DOWN starts the next
  else if (!pending_restart_)
    start_worker();
}

void supervised_engine::fence_off(std::string why) {
  fence_ = std::move(why);
  model_ = nullptr;  // there may not be memory for this one and its successor
  withdraw();
  if (worker_) stop_worker();
}

void supervised_engine::end() {
  ending_ = true;
  if (!worker_) return;
  // One that hangs would never read the message.
  if (failure_ && board_->phase.load(std::memory_order_acquire) != worker_phase::starting && board_->engine)
    board_->engine->give_up();
  stop_worker();
}

void supervised_engine::start_worker() {
  pending_restart_.reset();
  if (!model_ || fence_ || gave_up_ || failure_ || worker_ || ending_) return;
  const auto incarnation = ++place_.incarnation;
  board_ = std::make_shared<worker_board>(worker_id_, incarnation);
  board_->step_floor = place_.step_floor;
  watch_.emplace(options_.watch, known_.golden);
  announced_ = cancelled_ = replacement_asked_ = false;
  end_reason_.clear();
  started_ = self_->clock().now();
  if (options_.guard) options_.guard->watch(board_);
  worker_options w;
  w.model = model_;
  w.generation = options_.generation;
  w.backend = options_.backend;
  w.device = device_;
  w.board = board_;
  if (!options_.watched) w.canary_check = std::chrono::hours(24);
  w.on_started = [me = caf::actor_cast<caf::actor_addr>(self_)] {
    // Not to keep this actor alive: the worker holds the function for as long as it lives.
    if (const auto supervisor = caf::actor_cast<engine_supervisor_actor>(me))
      caf::anon_send(supervisor, status_atom_v);
  };
  const supervised_spawn mark(incarnation);
  worker_ = options_.detach_worker ? self_->spawn<caf::detached>(actors::worker, std::move(w))
                                   : self_->spawn(actors::worker, std::move(w));
  self_->monitor(worker_);
  if (incarnation > 1)
    self_->send(options_.aggregator,
                health_note{"inference_engine", "worker_restarted",
                            fmt::format("worker {}.{} started", worker_id_, incarnation)});
}

void supervised_engine::stop_worker() {
  withdraw();
  replacement_asked_ = true;
  self_->send_exit(worker_, caf::exit_reason::user_shutdown);
}

void supervised_engine::withdraw() {
  if (!announced_) return;
  announced_ = false;
  self_->send(options_.router, withdraw_atom_v, board_->id, board_->incarnation);
}

void supervised_engine::restart(std::uint64_t generation) {
  if (generation == restart_generation_) start_worker();
}

void supervised_engine::on_worker_down(const caf::down_msg& down) {
  withdraw();
  worker_ = nullptr;
  add_work(options_.ledger->totals, *board_);
  place_.step_floor = next_step_floor(*board_);
  const bool proved = proved_itself();
  const bool never_began = !board_->engine;
  if (options_.guard) options_.guard->forget(*board_);
  board_.reset();
  if (ending_ || gave_up_) return;
  if (replacement_asked_) {
    start_worker();
    return;
  }
  const auto why = !end_reason_.empty()                       ? std::exchange(end_reason_, {})
                   : down.reason.category() == error_category ? describe(down.reason).message
                                                              : caf::to_string(down.reason);
  spdlog::error("engine: worker {}.{} ended: {}", worker_id_, place_.incarnation, why);
  if (role_ == model_role::candidate) {
    failure_ = "its engine ended at once: " + why;
    return;
  }
  ++options_.ledger->totals.worker_restarts;
  const auto now = self_->clock().now();
  if (never_began && follows_bad_weights() && !sibling_proves_weights()) {
    // Its weights were checked before it was to begin, and found to be bad as well.
    ask_for_reload();
    return;
  }
  const auto delay = proved ? policy_.on_failure_after_proof(now) : policy_.on_failure(now);
  if (!delay) {
    const auto period = proved ? options_.restarts.proved_period : options_.restarts.period;
    gave_up_ = fmt::format("the worker failed {} times within {} s, the last time: {}; restart the server",
                           policy_.recent_failures(), period.count(), why);
  } else {
    pending_restart_ = fmt::format("restarting the worker, which ended: {}", why);
    self_->delayed_send(self_, *delay, restart_atom_v, worker_id_, ++restart_generation_);
  }
}

void supervised_engine::act_on(const engine_verdict& verdict, const worker_observation& seen) {
  if (role_ == model_role::candidate) reject_if_broken(verdict, seen);
  if (failure_) return;
  if (verdict.takes_requests && !announced_) {
    announced_ = true;
    const auto capacity = options_.generation.max_sequences + options_.generation.max_queued;
    self_->send(options_.router, announce_atom_v,
                announced_worker{worker_, board_, capacity, options_.generation.max_sequences, slot_});
  }
  if (!verdict.takes_requests) withdraw();
  if (verdict.replace) end_worker(verdict.message);
  const bool no_result = seen.canary_runs != 0 && seen.canary_failed && options_.backend.own_weights;
  if (verdict.wrong_results || no_result) on_wrong_results(verdict);
  if (seen.phase == worker_phase::refused && self_->clock().now() - started_ >= options_.refused_retry)
    stop_worker();
}

/// Nobody waits for a candidate to heal: the serving model is there.
void supervised_engine::reject_if_broken(const engine_verdict& verdict, const worker_observation& seen) {
  if (verdict.replace || verdict.wrong_results || seen.phase == worker_phase::refused ||
      (seen.canary_runs != 0 && seen.canary_failed))
    failure_ = verdict.message;
}

/// Ends a worker that does not end by itself. A thread cannot be killed: its pass is asked to give up at the
/// next layer, and the worker ends when its handler returns; only then a new one may take its cores and
/// memory. The process of an engine is killed, which lets the worker's handler return.
void supervised_engine::end_worker(const std::string& why) {
  if (cancelled_) return;
  cancelled_ = true;
  end_reason_ = why;
  spdlog::error("engine: {}", why);
  board_->engine->give_up();
  self_->send_exit(worker_, caf::exit_reason::kill);
}

/// The worker's last canary gave the answer that is known to be right.
bool supervised_engine::gives_right_results() const {
  return board_ && known_.golden && board_->canary_runs.load(relaxed) > 0 &&
         !board_->canary_failed.load(relaxed) && board_->canary_hash.load(relaxed) == *known_.golden &&
         bad_incarnation_ != place_.incarnation;
}

bool supervised_engine::sibling_proves_weights() const {
  return std::any_of(siblings_.begin(), siblings_.end(), [this](const auto& other) {
    return other.get() != this && other->load_ == load_ && other->gives_right_results();
  });
}

/// Where an engine has weights of its own, the next one may be sound. Where it is not, or where all use the
/// same memory, only loading the file again helps.
void supervised_engine::on_wrong_results(const engine_verdict& verdict) {
  if (!options_.backend.own_weights || follows_bad_weights()) return ask_for_reload();
  bad_incarnation_ = place_.incarnation;
  end_worker(verdict.message);
}

/// The incarnation before this one had wrong weights.
bool supervised_engine::follows_bad_weights() const {
  return bad_incarnation_ != 0 && bad_incarnation_ + 1 == place_.incarnation;
}

/// Unless another device gives right results with this load: then that one goes on, and this one does not.
/// Its weights may be to blame all the same, where what new engines get has changed since the other began; a
/// reload for that would end the streams of the one that works.
void supervised_engine::ask_for_reload() {
  if (reload_asked_ == load_ || gave_up_) return;
  bad_incarnation_ = place_.incarnation;
  if (sibling_proves_weights()) {
    gave_up_ =
        "gives wrong results again and again, and another device right ones: restart the server, and leave "
        "this device out if it happens again";
    spdlog::error("engine: {} {}", device_name(), *gave_up_);
    withdraw();
    if (worker_) end_worker(*gave_up_);
    return;
  }
  reload_asked_ = load_;
  self_->send(options_.model, reload_atom_v, slot_);
}

/// The running incarnation has given a right answer, and can be replaced at little cost.
bool supervised_engine::proved_itself() const {
  return board_->engine && board_->engine->killable() && bad_incarnation_ != place_.incarnation &&
         board_->canary_runs.load(relaxed) > 0 && !board_->canary_failed.load(relaxed);
}

engine_verdict supervised_engine::judge() {
  if (gave_up_) return lost_verdict(*gave_up_);
  if (fence_) return unhealthy_verdict("fenced", "stopped: " + *fence_);
  if (!worker_)
    return unhealthy_verdict(pending_restart_ ? "restarting" : "starting",
                             pending_restart_.value_or("starting the worker"));
  const auto seen = observe(*board_, options_.generation.max_queued);
  const auto now = self_->clock().now();
  // Kept from running ourselves, we cannot say that somebody else was silent.
  if (last_look_ != steady_time{} && now - last_look_ > options_.period + own_delay) watch_->forgive(now);
  last_look_ = now;
  if (known_.golden) watch_->expect(*known_.golden);
  auto verdict = watch_->judge(seen, now);
  if (!known_.golden) known_.golden = watch_->golden();
  if (!options_.watched && verdict.status == health_status::healthy) {
    verdict.status = health_status::degraded;
    verdict.code = "unwatched";
    verdict.message = "nobody checks this engine (debug.unwatched)";
  }
  if (!ending_) act_on(verdict, seen);
  return verdict;
}

}  // namespace bitnet::actors
