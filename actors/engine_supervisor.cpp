#include "actors/engine_supervisor.hpp"

#include "actors/worker.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

namespace bitnet::actors {

namespace {

constexpr auto relaxed = std::memory_order_relaxed;
constexpr std::uint64_t worker_id = 0;  // one device, one worker
constexpr std::chrono::milliseconds own_delay{1000};

std::string weights_identity(const engine::model& model) {
  return fmt::format("{}:{}:{}", model.path.string(), model.file_bytes, model.created);
}

engine_verdict say_unhealthy(std::string_view code, std::string message, bool cannot_heal = false) {
  engine_verdict v;
  v.code = code;
  v.message = std::move(message);
  v.cannot_heal = cannot_heal;
  return v;
}

/// Adds the work of an incarnation to `sum`.
void add_work(engine_sample& sum, const worker_board& board) {
  sum.prompt_tokens += board.prompt_tokens.load(relaxed);
  sum.cached_tokens += board.cached_tokens.load(relaxed);
  sum.generated_tokens += board.generated_tokens.load(relaxed);
  sum.preemptions += board.preemptions.load(relaxed);
  sum.steps += board.steps.load(relaxed);
  sum.failed_sequences += board.failed_sequences.load(relaxed);
  sum.canary_runs += board.canary_runs.load(relaxed);
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

engine_supervisor_state::~engine_supervisor_state() {
  if (options.guard && board) options.guard->forget(*board);
  if (board) add_work(ledger().totals, *board);
  // The worker is this actor's child: it ends with it, also where this one is killed.
  if (worker) caf::anon_send_exit(worker, caf::exit_reason::user_shutdown);
}

void engine_supervisor_state::use_model(loaded_model loaded) {
  if (auto identity = weights_identity(*loaded.model); identity != ledger().golden_model) {
    ledger().golden_model = std::move(identity);
    ledger().golden.reset();
    ledger().step_floor = 0;
  }
  model = std::move(loaded.model);
  load = loaded.load;
  fence.reset();
  if (worker)
    stop_worker();  // its DOWN starts the next
  else if (!pending_restart)
    start_worker();
}

void engine_supervisor_state::fence_off(std::string why) {
  fence = std::move(why);
  model = nullptr;  // there may not be memory for this one and its successor
  withdraw();
  if (worker) stop_worker();
}

void engine_supervisor_state::start_worker() {
  pending_restart.reset();
  if (!model || fence || gave_up || worker) return;
  const auto incarnation = ++ledger().incarnation;
  board = std::make_shared<worker_board>(worker_id, incarnation);
  board->step_floor = ledger().step_floor;
  watch.emplace(options.watch, ledger().golden);
  announced = cancelled = replacement_asked = false;
  end_reason.clear();
  started = self->clock().now();
  if (options.guard) options.guard->watch(board);
  worker_options w;
  w.model = model;
  w.generation = options.generation;
  w.backend = options.backend;
  w.board = board;
  if (!options.watched) w.canary_check = std::chrono::hours(24);
  w.on_started = [me = caf::actor_cast<caf::actor_addr>(self)] {
    // Not to keep this actor alive: the worker holds the function for as long as it lives.
    if (const auto supervisor = caf::actor_cast<engine_supervisor_actor>(me))
      caf::anon_send(supervisor, status_atom_v);
  };
  const supervised_spawn mark(incarnation);
  worker = options.detach_worker ? self->spawn<caf::detached>(actors::worker, std::move(w))
                                 : self->spawn(actors::worker, std::move(w));
  self->monitor(worker);
  if (incarnation > 1)
    self->send(options.aggregator, health_note{"inference_engine", "worker_restarted",
                                               fmt::format("worker {}.{} started", worker_id, incarnation)});
}

void engine_supervisor_state::stop_worker() {
  withdraw();
  replacement_asked = true;
  self->send_exit(worker, caf::exit_reason::user_shutdown);
}

void engine_supervisor_state::withdraw() {
  if (!announced) return;
  announced = false;
  self->send(options.router, withdraw_atom_v, board->id, board->incarnation);
}

void engine_supervisor_state::schedule_restart(std::chrono::milliseconds delay) {
  self->delayed_send(self, delay, restart_atom_v, ++restart_generation);
}

void engine_supervisor_state::on_worker_down(const caf::down_msg& down) {
  if (down.source == options.router.address()) {
    gave_up = "the router ended; restart the server";
    tick();
    return;
  }
  if (!worker || down.source != worker.address()) return;  // each monitor gives a DOWN of its own
  withdraw();
  worker = nullptr;
  add_work(ledger().totals, *board);
  ledger().step_floor = next_step_floor(*board);
  const bool proved = proved_itself();
  const bool never_began = !board->engine;
  if (options.guard) options.guard->forget(*board);
  board.reset();
  if (quitting) {
    self->quit(*quitting);
    return;
  }
  if (replacement_asked) {
    start_worker();
    return;
  }
  ++ledger().totals.worker_restarts;
  const auto failure = describe(down.reason);
  const auto why = !end_reason.empty()                       ? std::exchange(end_reason, {})
                   : failure.code == error_code::worker_lost ? failure.message
                                                             : caf::to_string(down.reason);
  spdlog::error("engine: worker {}.{} ended: {}", worker_id, ledger().incarnation, why);
  const auto now = self->clock().now();
  if (never_began && follows_bad_weights()) {
    // Its weights were checked before it was to begin, and found to be bad as well.
    ask_for_reload();
    tick();
    return;
  }
  const auto delay = proved ? policy.on_failure_after_proof(now) : policy.on_failure(now);
  if (!delay) {
    const auto period = proved ? options.restarts.proved_period : options.restarts.period;
    gave_up = fmt::format("the worker failed {} times within {} s, the last time: {}; restart the server",
                          policy.recent_failures(), period.count(), why);
  } else {
    pending_restart = fmt::format("restarting the worker, which ended: {}", why);
    schedule_restart(*delay);
  }
  tick();
}

void engine_supervisor_state::on_exit_request(caf::error reason) {
  // Ends after its worker, so that its successor's worker does not run beside this one's.
  if (quitting) return;
  quitting = std::move(reason);
  if (worker)
    stop_worker();
  else
    self->quit(*quitting);
}

void engine_supervisor_state::act_on(const engine_verdict& verdict, const worker_observation& seen) {
  if (verdict.takes_requests && !announced) {
    announced = true;
    const auto capacity = options.generation.max_sequences + options.generation.max_queued;
    self->send(options.router, announce_atom_v,
               announced_worker{worker, board, capacity, options.generation.max_sequences});
  }
  if (!verdict.takes_requests) withdraw();
  if (verdict.replace) end_worker(verdict.message);
  const bool no_result = seen.canary_runs != 0 && seen.canary_failed && options.backend.own_weights;
  if (verdict.wrong_results || no_result) on_wrong_results(verdict);
  if (seen.phase == worker_phase::refused && self->clock().now() - started >= options.refused_retry)
    stop_worker();
}

/// Ends a worker that does not end by itself. A thread cannot be killed: its pass is asked to give up at the
/// next layer, and the worker ends when its handler returns; only then a new one may take its cores and
/// memory. The process of an engine is killed, which lets the worker's handler return.
void engine_supervisor_state::end_worker(const std::string& why) {
  if (cancelled) return;
  cancelled = true;
  end_reason = why;
  spdlog::error("engine: {}", why);
  board->engine->give_up();
  self->send_exit(worker, caf::exit_reason::kill);
}

/// Where an engine has weights of its own, the next one may be sound. Where it is not, or where all use the
/// same memory, only loading the file again helps.
void engine_supervisor_state::on_wrong_results(const engine_verdict& verdict) {
  if (!options.backend.own_weights || follows_bad_weights()) return ask_for_reload();
  bad_incarnation = ledger().incarnation;
  end_worker(verdict.message);
}

/// The incarnation before this one had wrong weights.
bool engine_supervisor_state::follows_bad_weights() const {
  return bad_incarnation != 0 && bad_incarnation + 1 == ledger().incarnation;
}

void engine_supervisor_state::ask_for_reload() {
  if (reload_asked == load) return;
  bad_incarnation = ledger().incarnation;
  reload_asked = load;
  self->send(options.model, reload_atom_v);
}

/// The running incarnation has given a right answer, and can be replaced at little cost.
bool engine_supervisor_state::proved_itself() const {
  return board->engine && board->engine->killable() && bad_incarnation != ledger().incarnation &&
         board->canary_runs.load(relaxed) > 0 && !board->canary_failed.load(relaxed);
}

caf::result<std::string> engine_supervisor_state::cause_fault(const fault_request& fault) {
  if (!worker) return make_error(error_code::no_worker, "no worker runs now");
  return self->delegate(worker, fault_atom_v, fault);
}

engine_verdict engine_supervisor_state::judge() {
  if (gave_up) return say_unhealthy("gave_up", *gave_up, true);
  if (fence) return say_unhealthy("fenced", "stopped: " + *fence);
  if (!model) return say_unhealthy("waiting_for_model", "waiting for the model");
  if (!worker)
    return say_unhealthy(pending_restart ? "restarting" : "starting",
                         pending_restart.value_or("starting the worker"));
  const auto seen = observe(*board, options.generation.max_queued);
  const auto now = self->clock().now();
  // Kept from running ourselves, we cannot say that somebody else was silent.
  if (last_tick != steady_time{} && now - last_tick > options.period + own_delay) watch->forgive(now);
  last_tick = now;
  auto verdict = watch->judge(seen, now);
  ledger().golden = watch->golden();
  if (!options.watched && verdict.status == health_status::healthy) {
    verdict.status = health_status::degraded;
    verdict.code = "unwatched";
    verdict.message = "nobody checks this engine (debug.unwatched)";
  }
  act_on(verdict, seen);
  return verdict;
}

engine_sample engine_supervisor_state::sample() const {
  auto s = ledger().totals;
  s.queue_capacity = options.generation.max_queued;
  s.workers = announced ? 1 : 0;
  if (options.backend.processes) {
    const auto processes = options.backend.processes();
    if (!processes.empty()) s.loader_pid = static_cast<std::uint32_t>(processes[0]);
    if (processes.size() > 1) s.engine_pid = static_cast<std::uint32_t>(processes[1]);
  }
  if (!board) return s;
  add_work(s, *board);
  s.running = board->running.load(relaxed);
  s.queued = board->queued.load(relaxed);
  s.kv_blocks_used = board->kv_blocks_used.load(relaxed);
  s.kv_blocks_total = board->kv_blocks_total.load(relaxed);
  s.step_seconds_p99 = step_seconds_p99(*board);
  return s;
}

void engine_supervisor_state::report(const engine_verdict& verdict, std::chrono::nanoseconds took) {
  component_report r;
  r.component = "inference_engine";
  r.status = verdict.status;
  r.message = verdict.message;
  r.code = verdict.code;
  r.cannot_heal = verdict.cannot_heal;
  r.check_ns = static_cast<std::uint64_t>(took.count());
  r.period_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(options.period).count());
  self->send(options.aggregator, sample());
  self->send(options.aggregator, std::move(r));
}

void engine_supervisor_state::tick() {
  const auto began = std::chrono::steady_clock::now();
  const auto verdict = judge();
  report(verdict, std::chrono::steady_clock::now() - began);
}

engine_supervisor_actor::behavior_type engine_supervisor(
    instrumented_pointer<engine_supervisor_actor, engine_supervisor_state> self,
    engine_supervisor_options options) {
  auto& state = self->state;
  state.policy = restart_policy(options.restarts);
  state.options = std::move(options);
  self->set_down_handler([self](caf::down_msg& down) { self->state.on_worker_down(down); });
  self->set_exit_handler(
      [self](caf::exit_msg& exit) { self->state.on_exit_request(std::move(exit.reason)); });
  self->monitor(state.options.router);
  self->send(self, tick_atom_v);
  return {
      [self](loaded_model& loaded) { self->state.use_model(std::move(loaded)); },
      [self](fence_atom, std::string& why) {
        self->state.fence_off(std::move(why));
        self->state.tick();
      },
      [self](tick_atom) {
        self->state.tick();
        self->delayed_send(self, self->state.options.period, tick_atom_v);
      },
      [self](status_atom) { self->state.tick(); },
      [self](fault_atom, const fault_request& fault) { return self->state.cause_fault(fault); },
      [self](restart_atom, std::uint64_t generation) {
        if (generation == self->state.restart_generation) self->state.start_worker();
      },
  };
}

}  // namespace bitnet::actors
