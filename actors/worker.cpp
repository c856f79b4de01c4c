#include "actors/worker.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <exception>
#include <new>
#include <utility>
#include <vector>

namespace bitnet::actors {

namespace {

constexpr auto relaxed = std::memory_order_relaxed;

std::int64_t to_ns(steady_time time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

/// Marks the board busy while the engine has the thread.
class busy_mark {
 public:
  busy_mark(worker_board& board, worker_phase phase, steady_time now) : board_(board) {
    board_.busy_since_ns.store(to_ns(now), relaxed);
    board_.phase.store(phase, std::memory_order_release);
  }
  ~busy_mark() {
    board_.busy_since_ns.store(0, relaxed);
    board_.phase.store(worker_phase::idle, std::memory_order_release);
  }
  busy_mark(const busy_mark&) = delete;
  busy_mark& operator=(const busy_mark&) = delete;

 private:
  worker_board& board_;
};

/// What the engine could not compute; what it refused (a full queue, say) is no fault of its.
bool is_failed_computation(const engine::generation_event& event) {
  return event.finish == engine::finish_reason::failed &&
         (!event.failure || event.failure->code == engine::error_code::internal);
}

}  // namespace

worker_state::~worker_state() {
  // Others hold the engine as well, to look at it: what it uses must be free before the next one starts.
  if (engine != nullptr) engine->give_up();
}

worker_stream::worker_stream(token_sink_actor sink, engine::request_id request, std::uint32_t attempt)
    : sink_(std::move(sink)), request_(request), attempt_(attempt) {}

worker_stream::~worker_stream() {
  if (finished_) return;
  token_frame frame;
  frame.request = request_;
  frame.attempt = attempt_;
  frame.seq = seq_;
  frame.finish = engine::finish_reason::failed;
  frame.usage = usage_;
  frame.error = error_code::worker_lost;
  frame.error_message = "The worker ended with this request in flight; send it again.";
  caf::anon_send(sink_, std::move(frame));
}

bool worker_stream::deliver(engine::generation_event& event) {
  token_frame frame;
  frame.request = request_;
  frame.attempt = attempt_;
  frame.seq = seq_++;
  frame.tokens = std::move(event.tokens);
  frame.finish = event.finish;
  frame.usage = usage_ = event.usage;
  if (event.failure) {
    frame.error = from_engine(event.failure->code);
    frame.error_message = event.failure->message;
  } else if (event.finish == engine::finish_reason::failed) {
    frame.error = error_code::internal;
    frame.error_message = "The computation failed.";
  }
  finished_ = event.finish != engine::finish_reason::none;
  caf::anon_send(sink_, std::move(frame));
  return finished_;
}

void worker_state::start() {
  auto& board = *options.board;
  auto refuse = [&](std::string why) {
    spdlog::error("worker {}.{}: {}", board.id, board.incarnation, why);
    board.refusal = std::move(why);
    board.phase.store(worker_phase::refused, std::memory_order_release);
    if (options.on_started) options.on_started();
  };
  try {
    auto created = options.backend.create_engine(options.model, options.generation, options.device);
    // One that died while it was built may well come to life at the next attempt; one that says no will not.
    if (!created && created.error().code == engine::error_code::internal)
      return self->quit(make_error(error_code::worker_lost, created.error().message));
    if (!created) return refuse(created.error().message);
    board.engine = std::move(*created);
  } catch (const std::bad_alloc&) {
    return refuse("Not enough memory for the engine; lower engine.kv-cache or use a smaller model.");
  }
  engine = board.engine.get();
  board.wake_worker = [me = worker_actor(self)] { caf::anon_send(me, step_atom_v); };
  publish_stats();
  board.phase.store(worker_phase::idle, std::memory_order_release);
  run_canary();
  if (options.on_started) options.on_started();
  self->delayed_send(self, options.canary_check, canary_atom_v);
}

caf::result<submit_receipt> worker_state::submit(engine::generation_request request, std::uint32_t attempt,
                                                 const token_sink_actor& sink) {
  if (draining) return make_error(error_code::draining, "The server is shutting down; try another one.");
  if (engine == nullptr) return make_error(error_code::no_worker, "The engine did not start; see /health.");
  if (!sink) return make_error(error_code::invalid_request, "The request names nobody to send tokens to.");
  if (auto why = engine->lost()) {
    schedule_step();  // ends this worker
    return make_error(error_code::worker_lost, std::move(*why));
  }
  const auto client_id = request.id;
  const auto sequence = next_sequence++;
  request.id = sequence;
  if (auto accepted = engine->submit(std::move(request)); !accepted) return make_error(accepted.error());

  streams.emplace(sequence, std::make_unique<worker_stream>(sink, client_id, attempt));
  auto& of_sink = by_sink[sink.address()];
  if (of_sink.empty()) self->monitor(sink);
  of_sink.insert(sequence);
  publish_stats();
  schedule_step();
  return submit_receipt{client_id, attempt, options.board->id, options.board->incarnation};
}

void worker_state::cancel(engine::request_id request) {
  for (const auto& [sequence, stream] : streams)
    if (stream->request() == request) engine->cancel(sequence);
}

void worker_state::on_sink_down(const caf::actor_addr& sink) {
  const auto found = by_sink.find(sink);
  if (found == by_sink.end()) return;  // its last stream ended meanwhile
  for (const auto sequence : found->second) {
    streams.at(sequence)->abandon();
    streams.erase(sequence);
    engine->cancel(sequence);
  }
  by_sink.erase(found);
  publish_stats();
}

void worker_state::finish(engine::request_id sequence) {
  const auto stream = streams.find(sequence);
  const auto sink = stream->second->sink().address();
  streams.erase(stream);
  const auto of_sink = by_sink.find(sink);
  of_sink->second.erase(sequence);
  if (!of_sink->second.empty()) return;
  self->demonitor(sink);
  by_sink.erase(of_sink);
}

caf::result<std::string> worker_state::cause_fault(const fault_request& fault) {
  if (engine == nullptr) return make_error(error_code::no_worker, "The engine did not start; see /health.");
  auto done = engine->cause_fault(fault);
  if (!done) return make_error(error_code::invalid_request, std::move(done.error()));
  return std::move(*done);
}

void worker_state::schedule_step() {
  if (step_pending) return;
  step_pending = true;
  self->send(self, step_atom_v);
}

void worker_state::step() {
  step_pending = false;
  if (engine == nullptr) return;
  auto& board = *options.board;
  const auto began = self->clock().now();
  std::vector<engine::generation_event> events;
  {
    busy_mark busy(board, worker_phase::stepping, began);
    events = engine->step();
  }
  publish_step(began);
  if (std::any_of(events.begin(), events.end(), is_failed_computation)) {
    board.failed_steps.fetch_add(1, relaxed);
    canary_wanted = true;  // one bad request, or a broken engine?
  }
  for (auto& event : events) {
    if (is_failed_computation(event)) {
      board.failed_sequences.fetch_add(1, relaxed);
    } else if (event.finish == engine::finish_reason::stop || event.finish == engine::finish_reason::length) {
      board.finished_sequences.fetch_add(1, relaxed);
    }
    const auto stream = streams.find(event.id);
    if (stream != streams.end() && stream->second->deliver(event)) finish(event.id);
  }
  publish_stats();
  if (end_if_lost()) return;
  if (canary_wanted) run_canary();
  if (!engine->idle()) schedule_step();
}

/// An engine whose process has ended takes its worker along: the streams get their last frames, and the
/// supervisor starts the next incarnation.
bool worker_state::end_if_lost() {
  const auto why = engine->lost();
  if (!why) return false;
  spdlog::error("worker {}.{}: {}", options.board->id, options.board->incarnation, *why);
  self->quit(make_error(error_code::worker_lost, *why));
  return true;
}

void worker_state::run_canary() {
  auto& board = *options.board;
  canary_wanted = false;
  last_canary = self->clock().now();
  engine::result<std::uint64_t> hash = engine::fail(engine::error_code::internal, "");
  {
    busy_mark busy(board, worker_phase::probing, last_canary);
    hash = engine->probe_hash();
  }
  if (!hash && end_if_lost()) return;
  if (!hash)
    spdlog::error("worker {}.{}: the canary failed: {}", board.id, board.incarnation, hash.error().message);
  board.canary_failed.store(!hash, relaxed);
  if (hash) board.canary_hash.store(*hash, relaxed);
  board.canary_ran_ns.store(to_ns(self->clock().now()), relaxed);
  board.canary_runs.fetch_add(1, std::memory_order_release);
}

void worker_state::run_canary_if_due() {
  self->delayed_send(self, options.canary_check, canary_atom_v);
  if (engine == nullptr) return;
  publish_stats();
  const std::chrono::nanoseconds period = engine->idle() ? options.canary_idle : options.canary_busy;
  if (canary_wanted || self->clock().now() - last_canary >= period) run_canary();
}

void worker_state::publish_stats() {
  auto& board = *options.board;
  const auto stats = engine->stats();
  board.running.store(stats.running, relaxed);
  board.queued.store(stats.queued, relaxed);
  board.streams.store(streams.size(), relaxed);
  board.kv_blocks_used.store(stats.kv_blocks_used, relaxed);
  board.kv_blocks_total.store(stats.kv_blocks_total, relaxed);
  board.prompt_tokens.store(stats.prompt_tokens, relaxed);
  board.cached_tokens.store(stats.cached_tokens, relaxed);
  board.generated_tokens.store(stats.generated_tokens, relaxed);
  board.preemptions.store(stats.preemptions, relaxed);
}

void worker_state::publish_step(steady_time began) {
  auto& board = *options.board;
  std::uint64_t count = 1;
  auto microseconds = std::chrono::duration<double, std::micro>(self->clock().now() - began).count();
  if (engine->killable()) {
    // An engine in another process computes ahead: what this thread waited is not what a step took, and one
    // answer may tell of several.
    const auto stats = engine->stats();
    count = stats.steps - std::exchange(engine_steps, stats.steps);
    microseconds = stats.last_step_seconds * 1e6;
  }
  const auto step = board.steps.load(relaxed);
  const auto each = static_cast<std::uint32_t>(microseconds);
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(count, worker_board::step_ring_size); ++i)
    board.step_us[(step + i) % worker_board::step_ring_size].store(each, relaxed);
  board.steps_us.fetch_add(static_cast<std::uint64_t>(microseconds * static_cast<double>(count)), relaxed);
  board.steps.store(step + count, relaxed);
}

worker_actor::behavior_type worker(instrumented_pointer<worker_actor, worker_state> self,
                                   worker_options options) {
  self->state.options = std::move(options);
  self->set_down_handler([self](caf::down_msg& down) { self->state.on_sink_down(down.source); });
  self->send(self, start_atom_v);
  return {
      [self](submit_atom, engine::generation_request& request, std::uint32_t attempt,
             const token_sink_actor& sink) { return self->state.submit(std::move(request), attempt, sink); },
      [self](cancel_atom, engine::request_id request) { self->state.cancel(request); },
      [self](drain_atom) { self->state.draining = true; },
      [self](start_atom) { self->state.start(); },
      [self](step_atom) { self->state.step(); },
      [self](canary_atom) { self->state.run_canary_if_due(); },
      [self](fault_atom, const fault_request& fault) -> caf::result<std::string> {
        return self->state.cause_fault(fault);
      },
      [self](status_atom) {
        const auto& state = self->state;
        const auto& board = *state.options.board;
        return worker_status{board.id, board.incarnation, state.draining, board.running.load(relaxed),
                             board.queued.load(relaxed)};
      },
  };
}

}  // namespace bitnet::actors
