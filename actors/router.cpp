#include "actors/router.hpp"

#include "actors/cluster/remote_worker.hpp"
#include "actors/request_timeout.hpp"
#include "actors/worker_board.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace bitnet::actors {

namespace {

constexpr auto relaxed = std::memory_order_relaxed;
constexpr const char* going = "The server is shutting down; try another one.";

/// The watchdog may suspect a worker between two looks of its supervisor.
bool takes_requests(const routed_worker& known) {
  return !known.withdrawn && !known.worker.board->suspect.load(relaxed);
}

/// Of the tokens that a KV cache keeps together; 0 for prompts that are too short to matter.
std::uint64_t prefix_of(const engine::generation_request& request) {
  constexpr std::size_t tokens = 64;
  if (request.prompt.size() < tokens) return 0;
  std::uint64_t hash = 0xCBF29CE484222325ULL;  // FNV-1a
  for (std::size_t i = 0; i < tokens; ++i) hash = (hash ^ request.prompt[i]) * 0x100000001B3ULL;
  return hash;
}

worker_run run_of(const announced_worker& worker) {
  return {worker.board->id, worker.board->incarnation};
}

}  // namespace

router_state::~router_state() {
  // Nobody else can end these streams.
  const auto code = draining ? error_code::draining : error_code::internal;
  const char* why =
      draining ? "The server is shutting down and cut this request off." : "The router of the server ended.";
  for (auto& [k, c] : clients) {
    if (c.accepted.pending())
      c.accepted.deliver(make_error(code, why));
    else if (auto* stream = streams.find(k))
      caf::anon_send(c.sink, stream->fail(code, why));
  }
  options.counters->active.store(0, relaxed);
  options.counters->waiting.store(0, relaxed);
}

bool router_state::any_worker(std::uint64_t model) const {
  return std::any_of(workers.begin(), workers.end(), [model](const routed_worker& known) {
    return known.worker.model == model && takes_requests(known);
  });
}

void router_state::note_workers() {
  for (auto& [slot, m] : models) {
    if (any_worker(slot))
      m.without_worker.reset();
    else if (!m.without_worker)
      m.without_worker = self->clock().now();
  }
}

caf::result<submit_receipt> router_state::submit(std::uint64_t model, engine::generation_request request,
                                                 std::uint32_t attempt, const token_sink_actor& sink) {
  if (draining) return make_error(error_code::draining, going);
  if (!sink) return make_error(error_code::invalid_request, "The request names nobody to send tokens to.");
  const auto now = self->clock().now();
  note_workers();
  if (!any_worker(model)) {
    // Worth a wait only where a worker is merely being replaced.
    const auto known = models.find(model);
    if (known == models.end() || now - *known->second.without_worker >= options.resume.resume_wait)
      return make_error(error_code::no_worker, "No worker is ready; see /health for the reason.");
    if (streams.waiting() >= known->second.last_capacity)
      return make_error(error_code::overloaded, "All places are taken; try again later.");
  }
  const auto id = request.id;
  const auto prefix = prefix_of(request);
  retries.on_request();
  const auto k = streams.add(std::move(request), attempt, now);
  auto accepted = self->make_response_promise<submit_receipt>();
  clients.emplace(k, client{sink, model, id, attempt, accepted, prefix});
  auto& of_sink = by_sink[sink.address()];
  if (of_sink.empty()) self->monitor(sink);
  of_sink.insert(k);
  pump();
  return accepted;
}

const announced_worker* router_state::choose(const client& c, const engine::generation_request& wanted) {
  const bool travels = cluster::fits_message(wanted);
  std::vector<cluster::route_candidate> candidates;
  std::vector<const announced_worker*> who;
  const auto now = self->clock().now();
  for (const auto& known : workers) {
    if (known.worker.model != c.model || !takes_requests(known)) continue;
    const auto& worker = known.worker;
    const auto& b = *worker.board;
    if (b.remote && !travels) continue;
    const auto blocks = b.kv_blocks_total.load(relaxed);
    cluster::route_candidate r;
    r.worker = b.id;
    r.capacity = worker.capacity;
    r.streams = b.streams.load(relaxed);
    r.queued = b.queued.load(relaxed);
    r.kv_used =
        blocks == 0 ? 0 : static_cast<double>(b.kv_blocks_used.load(relaxed)) / static_cast<double>(blocks);
    r.remote = b.remote;
    r.reported = now;  // one that stops reporting is withdrawn
    for (const auto& [k, other] : clients) {
      const auto* stream = streams.find(k);
      if (!stream->in_flight() || streams.at(k) != run_of(worker)) continue;
      const auto& request = stream->request();
      r.in_flight_tokens +=
          request.max_tokens - std::min<std::size_t>(request.max_tokens, request.emitted.size());
    }
    candidates.push_back(r);
    who.push_back(&worker);
  }
  const auto chosen = cluster::choose_worker(candidates, c.prefix, c.refused_by, now, {}, random);
  return chosen ? who[*chosen] : nullptr;
}

bool router_state::retry_elsewhere(stream_table::key k) {
  auto& c = clients.at(k);
  if (c.refused_by || workers.size() < 2 || !retries.take()) return false;
  c.refused_by = streams.at(k).worker;
  streams.postpone(k, self->clock().now());
  return true;
}

void router_state::pump() {
  const auto now = self->clock().now();
  while (const auto k = streams.next(now)) {
    const auto& c = clients.at(*k);
    if (const auto* chosen = choose(c, streams.find(*k)->request()))
      send_to(*k, *chosen);
    else if (!any_worker(c.model) && models.size() < 2)
      break;
    else if (!any_worker(c.model))
      streams.postpone(*k, now);  // not to hold up the other model's streams
    else if (streams.find(*k)->first_attempt())
      fail(*k, error_code::overloaded, "All places are taken; try again later.");
    else
      streams.postpone(*k, now);
  }
  if (streams.waiting() != 0) schedule_tick();
  publish();
}

void router_state::schedule_tick() {
  if (std::exchange(tick_pending, true)) return;
  self->delayed_send(self, options.tick, tick_atom_v);
}

void router_state::tick() {
  tick_pending = false;
  note_workers();
  for (const auto& [slot, m] : models) {
    if (!m.without_worker) continue;
    for (const auto k : streams.expired(self->clock().now(), *m.without_worker)) {
      if (clients.at(k).model != slot) continue;
      options.counters->abandoned.fetch_add(1, relaxed);
      if (streams.find(k)->first_attempt())
        fail(k, error_code::no_worker, "No worker became ready in time; see /health for the reason.");
      else
        fail(k, error_code::worker_lost,
             "Its worker was lost and no other became ready in time; send it again.");
    }
  }
  pump();
}

void router_state::send_to(stream_table::key k, const announced_worker& worker) {
  auto request = streams.begin(k, run_of(worker));
  const auto* stream = streams.find(k);
  const auto attempt = stream->attempt();
  if (!stream->first_attempt()) {
    options.counters->resumed.fetch_add(1, relaxed);
    spdlog::debug("request {}: resumes after {} tokens on worker {}.{}", stream->request().id,
                  request.emitted.size(), worker.board->id, worker.board->incarnation);
  }
  const auto asked = self->request(worker.handle, options.submit_timeout, submit_atom_v, std::move(request),
                                   attempt, token_sink_actor(router_actor(self)));
  asked.then(
      [this, k, attempt, id = asked.id()](const submit_receipt& receipt) {
        forget_timeout(*self, id);
        auto* accepted = streams.find(k);
        if (accepted == nullptr) return;
        accepted->accept(attempt);
        auto& c = clients.at(k);
        if (c.accepted.pending())
          c.accepted.deliver(submit_receipt{c.id, c.attempt, receipt.worker, receipt.incarnation});
      },
      [this, k, attempt, id = asked.id()](const caf::error& error) {
        forget_timeout(*self, id);
        on_refusal(k, attempt, error);
      });
}

void router_state::on_refusal(stream_table::key k, std::uint32_t attempt, const caf::error& error) {
  const auto* stream = streams.find(k);
  if (stream == nullptr || stream->attempt() != attempt ||
      stream->current() != resumable_stream::phase::submitted)
    return;
  auto why = describe(error);
  switch (why.code) {
    case error_code::no_worker:
    case error_code::worker_lost:
      // It ended or has no engine: its DOWN, or another announcement, says how it goes on.
      streams.postpone(k, self->clock().now());
      break;
    case error_code::queue_full:
    case error_code::overloaded:
    case error_code::out_of_kv_cache:
    case error_code::out_of_memory:
    case error_code::draining:
      // Also after a time-out: the worker may still take it.
      cancel_at_worker(k);
      if (!stream->first_attempt())
        streams.postpone(k, self->clock().now());
      else if (!retry_elsewhere(k))
        fail(k, why.code, why.message);
      break;
    case error_code::none:
    case error_code::file_not_found:
    case error_code::file_malformed:
    case error_code::unsupported_model:
    case error_code::invalid_request:
    case error_code::prompt_too_long:
    case error_code::internal:
    case error_code::request_quarantined:
    case error_code::models_fixed:
    case error_code::path_not_allowed:
    case error_code::change_in_progress:
    case error_code::model_not_found:
      fail(k, why.code, why.message);
      break;
  }
  pump();
}

void router_state::on_frame(token_frame& frame) {
  using meaning = resumable_stream::meaning;
  const auto k = frame.request;
  auto* stream = streams.find(k);
  if (stream == nullptr) return;
  const auto now = self->clock().now();
  const auto why = frame.error_message;
  const auto what = stream->take(frame);
  switch (what) {
    case meaning::dropped:
      return;
    case meaning::forward:
    case meaning::ended: {
      auto& c = clients.at(k);
      if (c.accepted.pending()) {
        const auto run = streams.at(k);
        c.accepted.deliver(submit_receipt{c.id, c.attempt, run.worker, run.incarnation});
      }
      self->send(c.sink, std::move(frame));
      if (what == meaning::ended) forget(k);
      if (streams.waiting() != 0) pump();  // others may have waited for this token
      return;
    }
    case meaning::worker_lost: {
      const auto run = streams.at(k);
      const auto lost = std::find_if(workers.begin(), workers.end(),
                                     [&](const routed_worker& w) { return run_of(w.worker) == run; });
      if (lost != workers.end()) lose_worker(announced_worker(lost->worker));
      return;
    }
    case meaning::frames_lost:
      spdlog::warn("request {}: frames of its worker were lost; resuming", stream->request().id);
      cancel_at_worker(k);
      streams.lose(k, now);
      pump();
      return;
    case meaning::computation_failed:
      spdlog::warn("request {}: {}; trying once more", stream->request().id, why);
      streams.lose(k, now, options.resume.failed_retry_delay);
      pump();
      return;
  }
}

void router_state::lose_worker(const announced_worker& worker) {
  const auto run = run_of(worker);
  withdraw(run.worker, run.incarnation);
  const auto waiting = streams.waiting();
  const auto given_up = streams.lose_worker(run, self->clock().now(), worker.batch);
  if (streams.waiting() != waiting)
    spdlog::warn("router: worker {}.{} was lost with {} streams; they go on with the next", run.worker,
                 run.incarnation, streams.waiting() - waiting);
  for (const auto k : given_up) {
    spdlog::error("request {}: the only explanation of {} workers' deaths; it is not tried again",
                  streams.find(k)->request().id, options.resume.quarantine_after);
    options.counters->quarantined.fetch_add(1, relaxed);
    fail(k, error_code::request_quarantined,
         fmt::format("{} workers ended while they worked on this request; it is not tried again.",
                     options.resume.quarantine_after));
  }
  pump();
}

void router_state::cancel(engine::request_id request) {
  std::vector<stream_table::key> waiting;
  for (const auto& [k, c] : clients) {
    if (c.id != request) continue;
    if (streams.find(k)->in_flight())
      cancel_at_worker(k);  // which sends the last frame
    else
      waiting.push_back(k);
  }
  for (const auto k : waiting) {
    auto& c = clients.at(k);
    if (c.accepted.pending()) {
      c.accepted.deliver(make_error(error_code::no_worker, "Cancelled before a worker took it."));
    } else {
      auto last = streams.find(k)->fail(error_code::none, "");
      last.finish = engine::finish_reason::cancelled;
      self->send(c.sink, std::move(last));
    }
    forget(k);
  }
}

void router_state::cancel_at_worker(stream_table::key k) {
  const auto run = streams.at(k);
  for (const auto& known : workers)
    if (run_of(known.worker) == run)
      self->send(known.worker.handle, cancel_atom_v, static_cast<engine::request_id>(k));
}

void router_state::fail(stream_table::key k, error_code code, const std::string& message) {
  auto& c = clients.at(k);
  if (c.accepted.pending())
    c.accepted.deliver(make_error(code, message));
  else
    self->send(c.sink, streams.find(k)->fail(code, message));
  forget(k);
}

void router_state::forget(stream_table::key k) {
  const auto c = clients.find(k);
  const auto sink = c->second.sink.address();
  clients.erase(c);
  streams.erase(k);
  publish();
  const auto of_sink = by_sink.find(sink);
  if (of_sink == by_sink.end()) return;
  of_sink->second.erase(k);
  if (!of_sink->second.empty()) return;
  self->demonitor(sink);
  by_sink.erase(of_sink);
}

void router_state::publish() {
  options.counters->active.store(streams.size(), relaxed);
  options.counters->waiting.store(streams.waiting(), relaxed);
}

void router_state::announce(announced_worker worker) {
  const auto run = run_of(worker);
  if (options.on_announce && !worker.board->remote) options.on_announce(worker);
  std::vector<announced_worker> replaced;
  std::erase_if(workers, [&](const routed_worker& w) {
    const auto known = run_of(w.worker);
    const bool older = known.worker == run.worker && known.incarnation < run.incarnation;
    if (older) replaced.push_back(w.worker);
    return older;
  });
  const auto known = std::find_if(workers.begin(), workers.end(), [&](const routed_worker& w) {
    return run_of(w.worker).worker == run.worker;
  });
  if (known == workers.end()) {
    models[worker.model].last_capacity = worker.capacity;
    self->monitor(worker.handle);
    workers.push_back({std::move(worker), false});
  } else if (run_of(known->worker) == run) {
    known->withdrawn = false;
  }
  note_workers();
  for (const auto& old : replaced) lose_worker(old);
  pump();
}

void router_state::withdraw(std::uint64_t id, std::uint64_t incarnation) {
  for (auto& known : workers) {
    if (run_of(known.worker) != worker_run{id, incarnation}) continue;
    known.withdrawn = true;
    if (options.on_withdraw && !known.worker.board->remote) options.on_withdraw(id, incarnation);
  }
  note_workers();
}

void router_state::release(std::uint64_t model) {
  std::vector<stream_table::key> left;
  for (const auto& [k, c] : clients)
    if (c.model == model) left.push_back(k);
  for (const auto k : left) {
    if (streams.find(k)->in_flight()) cancel_at_worker(k);
    fail(k, error_code::worker_lost,
         "Its model was unloaded before the request was finished; send it again.");
  }
  models.erase(model);
  pump();
}

void router_state::on_down(const caf::actor_addr& who) {
  if (const auto sink = by_sink.find(who); sink != by_sink.end()) {
    const auto keys = std::move(sink->second);
    by_sink.erase(sink);
    for (const auto k : keys) {
      cancel_at_worker(k);
      forget(k);
    }
    return;
  }
  const auto worker = std::find_if(workers.begin(), workers.end(),
                                   [&](const routed_worker& w) { return w.worker.handle.address() == who; });
  if (worker == workers.end()) return;
  const auto lost = worker->worker;
  workers.erase(worker);
  note_workers();
  lose_worker(lost);
}

router_actor::behavior_type router(instrumented_pointer<router_actor, router_state> self,
                                   router_options options) {
  auto& state = self->state;
  state.random.seed(options.seed);
  state.streams = stream_table(options.resume);
  state.options = std::move(options);
  self->set_down_handler([self](caf::down_msg& down) { self->state.on_down(down.source); });
  return {
      [self](submit_atom, std::uint64_t model, engine::generation_request& request, std::uint32_t attempt,
             const token_sink_actor& sink) {
        return self->state.submit(model, std::move(request), attempt, sink);
      },
      [self](cancel_atom, engine::request_id request) { self->state.cancel(request); },
      [self](token_frame& frame) { self->state.on_frame(frame); },
      [self](announce_atom, announced_worker& worker) { self->state.announce(std::move(worker)); },
      [self](withdraw_atom, std::uint64_t id, std::uint64_t incarnation) {
        self->state.withdraw(id, incarnation);
      },
      [self](release_atom, std::uint64_t model) { self->state.release(model); },
      [self](tick_atom) { self->state.tick(); },
      [self](drain_atom) {
        self->state.draining = true;
        return true;
      },
      [self](undrain_atom) { self->state.draining = false; },
  };
}

}  // namespace bitnet::actors
