// The sequences of a cluster_state: those that this node's router has on other nodes, and those that other
// nodes have here.

#include "actors/cluster/cluster_actor.hpp"
#include "actors/request_timeout.hpp"

#include <caf/binary_deserializer.hpp>
#include <caf/binary_serializer.hpp>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace bitnet::actors::cluster {

namespace {

constexpr auto relaxed = std::memory_order_relaxed;

template <class T>
std::string to_bytes(caf::actor_system& system, const T& x) {
  std::vector<char> buffer;
  caf::binary_serializer sink(system, buffer);
  if (auto e = sink(x)) return {};
  return {buffer.data(), buffer.size()};
}

template <class T>
bool from_bytes(caf::actor_system& system, const std::string& bytes, T& x) {
  caf::binary_deserializer source(system, bytes.data(), bytes.size());
  return !source(x);
}

/// A frame that is not the one that should come next: some in between are lost, which is nobody's fault.
token_frame gap(engine::request_id request, std::uint32_t attempt) {
  token_frame frame;
  frame.request = request;
  frame.attempt = attempt;
  frame.seq = ~0U;
  return frame;
}

}  // namespace

void cluster_state::on_message(const node_id& from, const message& m) {
  std::visit(
      [&](const auto& x) {
        if constexpr (requires { on(from, x); }) on(from, x);
      },
      m);
}

// --- this node's sequences on others
// ------------------------------------------------------------------------

caf::result<submit_receipt> cluster_state::submit(std::uint64_t number,
                                                  const engine::generation_request& request,
                                                  std::uint32_t attempt, const token_sink_actor& sink) {
  const auto r = remotes.find(number);
  if (r == remotes.end() || !r->second.announced || !link_of.contains(r->second.node))
    return make_error(error_code::worker_lost, "The worker's node is gone.");
  const auto stream = ++last_number;
  forwarded f{number, request.id, sink, forwarded_stream(attempt, now(), options.streams), {}};
  message m = stream_submit{stream,
                            attempt,
                            r->second.worker,
                            r->second.incarnation,
                            f.stream.credit(),
                            to_bytes(self->system(), request)};
  if (std::get<stream_submit>(m).request.size() + 64 > max_message_bytes)
    return make_error(error_code::overloaded, "The request is too long for another node.");
  f.accepted = self->make_response_promise<submit_receipt>();
  auto promise = f.accepted;
  forwards.emplace(stream, std::move(f));
  r->second.board->streams.fetch_add(1, relaxed);  // until its next report
  send(r->second.node, m);
  return promise;
}

void cluster_state::cancel(std::uint64_t number, engine::request_id request) {
  for (auto it = forwards.begin(); it != forwards.end(); ++it) {
    auto& [stream, f] = *it;
    if (f.remote != number || f.request != request) continue;
    send(remotes.at(number).node, stream_cancel{stream, f.stream.attempt()});
    token_frame last;
    last.request = request;
    last.attempt = f.stream.attempt();
    last.seq = f.stream.next_seq();
    last.finish = engine::finish_reason::cancelled;
    if (f.accepted.pending())
      f.accepted.deliver(submit_receipt{request, last.attempt, remotes.at(number).board->id,
                                        remotes.at(number).incarnation});
    self->send(f.sink, std::move(last));
    forwards.erase(it);
    return;
  }
}

cluster_state::forwarded* cluster_state::find_forwarded(const node_id& from, std::uint64_t stream,
                                                        std::uint32_t attempt) {
  const auto found = forwards.find(stream);
  if (found == forwards.end() || found->second.stream.attempt() != attempt ||
      remotes.at(found->second.remote).node != from)
    return nullptr;
  return &found->second;
}

void cluster_state::on(const node_id& from, const stream_accept& m) {
  auto* f = find_forwarded(from, m.stream, m.attempt);
  if (f == nullptr) return send(from, stream_cancel{m.stream, m.attempt});
  f->stream.on_accept(m.attempt, now());
  const auto& r = remotes.at(f->remote);
  if (f->accepted.pending())
    f->accepted.deliver(submit_receipt{f->request, m.attempt, r.board->id, r.incarnation});
}

void cluster_state::on(const node_id& from, const stream_refuse& m) {
  auto* f = find_forwarded(from, m.stream, m.attempt);
  if (f == nullptr) return;
  // A code of a newer build means: not there.
  const auto code = m.code != 0 && m.code <= static_cast<std::uint8_t>(error_code::request_quarantined)
                        ? static_cast<error_code>(m.code)
                        : error_code::no_worker;
  if (f->accepted.pending())
    f->accepted.deliver(make_error(code, m.why));
  else
    self->send(f->sink, gap(f->request, m.attempt));
  forwards.erase(m.stream);
}

void cluster_state::on(const node_id& from, const stream_frame& m) {
  auto* f = find_forwarded(from, m.stream, m.attempt);
  if (f == nullptr) {
    // Nobody waits for it any more, and the cancellation was lost with a link.
    if (!m.last) send(from, stream_cancel{m.stream, m.attempt});
    return;
  }
  switch (f->stream.on_frame(m, now())) {
    case forwarded_stream::verdict::drop:
      return;
    case forwarded_stream::verdict::lost:
      return lose(m.stream, true, options.counters->lost);
    case forwarded_stream::verdict::deliver:
      break;
  }
  token_frame frame;
  if (!from_bytes(self->system(), m.payload, frame)) return lose(m.stream, true, options.counters->lost);
  frame.request = f->request;
  frame.attempt = m.attempt;
  frame.seq = m.seq;
  const bool last = frame.finish != engine::finish_reason::none;
  if (f->accepted.pending()) {
    const auto& r = remotes.at(f->remote);
    f->accepted.deliver(submit_receipt{f->request, m.attempt, r.board->id, r.incarnation});
  }
  self->send(f->sink, std::move(frame));
  if (last) {
    forwards.erase(m.stream);
    return;
  }
  if (const auto total = f->stream.grant()) send(from, stream_credit{m.stream, m.attempt, *total});
}

void cluster_state::on(const node_id& from, const stream_alive& m) {
  for (const auto& entry : m.streams) {
    auto* f = find_forwarded(from, entry.stream, entry.attempt);
    if (f == nullptr) {
      send(from, stream_cancel{entry.stream, entry.attempt});
      continue;
    }
    f->stream.on_alive(entry, now());
  }
}

void cluster_state::lose(std::uint64_t number, bool tell_worker, std::atomic<std::uint64_t>& count) {
  const auto found = forwards.find(number);
  if (found == forwards.end()) return;
  auto& f = found->second;
  if (tell_worker) send(remotes.at(f.remote).node, stream_cancel{number, f.stream.attempt()});
  count.fetch_add(1, relaxed);
  if (f.accepted.pending())
    f.accepted.deliver(make_error(error_code::worker_lost, "The worker's node does not answer."));
  else
    self->send(f.sink, gap(f.request, f.stream.attempt()));
  forwards.erase(found);
}

void cluster_state::lose_streams_on(const node_id& node_of) {
  std::vector<std::uint64_t> lost;
  for (const auto& [number, f] : forwards)
    if (remotes.at(f.remote).node == node_of) lost.push_back(number);
  for (const auto number : lost) lose(number, false, options.counters->lost);
}

void cluster_state::tick_streams(std::chrono::nanoseconds late) {
  const auto time = now();
  std::vector<std::uint64_t> stalled;
  for (auto& [number, f] : forwards) {
    if (late.count() > 0) f.stream.take_off(late);
    if (f.stream.stalled(time)) stalled.push_back(number);
  }
  for (const auto number : stalled) lose(number, true, options.counters->stalled);
  if (time - alive_sent < options.streams.alive_every) return;
  alive_sent = time;
  std::map<node_id, stream_alive> words;
  for (const auto& [number, s] : serves) words[s.gateway].streams.push_back(s.out.alive());
  for (const auto& [to, word] : words) send(to, word);
}

// --- other nodes' sequences here
// ----------------------------------------------------------------------------

std::map<std::uint64_t, cluster_state::served>::iterator cluster_state::find_served(const node_id& gateway,
                                                                                    std::uint64_t stream,
                                                                                    std::uint32_t attempt) {
  return std::find_if(serves.begin(), serves.end(), [&](const auto& s) {
    return s.second.gateway == gateway && s.second.stream == stream && s.second.attempt == attempt;
  });
}

void cluster_state::on(const node_id& from, const stream_submit& m) {
  const auto refuse = [&](error_code code, std::string why) {
    send(from, stream_refuse{m.stream, m.attempt, static_cast<std::uint8_t>(code), std::move(why)});
  };
  if (find_served(from, m.stream, m.attempt) != serves.end()) return;
  if (draining || leaving) return refuse(error_code::no_worker, "The node is leaving.");
  const auto worker = std::find_if(workers.begin(), workers.end(), [&](const announced_worker& w) {
    return w.board->id == m.worker && w.board->incarnation == m.incarnation;
  });
  if (worker == workers.end()) return refuse(error_code::no_worker, "The worker is gone.");
  engine::generation_request request;
  if (!from_bytes(self->system(), m.request, request))
    return refuse(error_code::no_worker, "The request is of another version.");
  const auto number = ++last_number;
  request.id = number;
  serves.emplace(number, served{from, m.stream, m.attempt, worker->handle,
                                served_stream(m.stream, m.attempt, m.credit)});
  // The worker answers after its current step, which may be a long one; the gateway is told meanwhile that
  // the sequence is here.
  const auto asked = self->request(worker->handle, std::chrono::minutes(2), submit_atom_v, std::move(request),
                                   m.attempt, token_sink_actor(cluster_actor(self)));
  asked.then(
      [this, number, id = asked.id()](const submit_receipt&) {
        forget_timeout(*self, id);
        if (const auto s = serves.find(number); s != serves.end())
          send(s->second.gateway, stream_accept{s->second.stream, s->second.attempt});
      },
      [this, number, id = asked.id()](const caf::error& e) {
        forget_timeout(*self, id);
        const auto s = serves.find(number);
        if (s == serves.end()) return;
        const auto why = actors::describe(e);
        send(s->second.gateway, stream_refuse{s->second.stream, s->second.attempt,
                                              static_cast<std::uint8_t>(why.code), why.message});
        // Also after a time-out: the worker may still take it.
        self->send(s->second.worker, cancel_atom_v, static_cast<engine::request_id>(number));
        serves.erase(s);
      });
}

void cluster_state::on(const node_id& from, const stream_credit& m) {
  const auto s = find_served(from, m.stream, m.attempt);
  if (s == serves.end()) return;
  s->second.out.grant(m.total);
  send_frames(s->second);
  if (s->second.out.finished()) serves.erase(s);
}

void cluster_state::on(const node_id& from, const stream_cancel& m) {
  const auto s = find_served(from, m.stream, m.attempt);
  if (s == serves.end()) return;
  self->send(s->second.worker, cancel_atom_v, static_cast<engine::request_id>(s->first));
  serves.erase(s);
}

void cluster_state::on_frame(token_frame& frame) {
  const auto s = serves.find(frame.request);
  if (s == serves.end()) return;
  const auto tokens = static_cast<std::uint32_t>(frame.tokens.size());
  const bool last = frame.finish != engine::finish_reason::none;
  s->second.out.push(tokens, last, to_bytes(self->system(), frame));
  send_frames(s->second);
  if (s->second.out.finished()) serves.erase(s);
}

void cluster_state::send_frames(served& s) {
  for (auto& frame : s.out.take()) send(s.gateway, std::move(frame));
}

void cluster_state::cancel_streams_of(const node_id& gateway) {
  std::erase_if(serves, [&](const auto& s) {
    if (s.second.gateway != gateway) return false;
    self->send(s.second.worker, cancel_atom_v, static_cast<engine::request_id>(s.first));
    return true;
  });
}

void cluster_state::hand_back() {
  for (const auto& [number, s] : serves) {
    self->send(s.worker, cancel_atom_v, static_cast<engine::request_id>(number));
    send(s.gateway, stream_refuse{s.stream, s.attempt, static_cast<std::uint8_t>(error_code::no_worker),
                                  "The node is leaving."});
  }
  serves.clear();
}

}  // namespace bitnet::actors::cluster
