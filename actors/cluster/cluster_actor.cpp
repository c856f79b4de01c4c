#include "actors/cluster/cluster_actor.hpp"

#include "actors/cluster/remote_worker.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <random>
#include <utility>

namespace bitnet::actors::cluster {

namespace {

constexpr auto relaxed = std::memory_order_relaxed;
constexpr std::chrono::milliseconds tick_period{100};
constexpr std::chrono::seconds health_period{1};
/// A report of load that is older says nothing any more.
constexpr std::chrono::seconds stale_after{2};
constexpr std::chrono::seconds dial_every{1};
/// Links to nodes that are watched no longer stay open so long, for probes and streams under way.
constexpr std::chrono::seconds keep_unused{60};

std::uint64_t remote_id(const node_id& node, std::uint64_t worker) noexcept {
  return short_hash(node) ^ (worker * 0x9E3779B97F4A7C15ULL);
}

/// Of this process: a later start has a greater one, also where the id is drawn anew.
std::uint64_t first_incarnation() {
  using namespace std::chrono;
  return static_cast<std::uint64_t>(
      duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count());
}

}  // namespace

std::uint64_t hash_model(const std::string& path, std::string_view settings) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return 0;
  const auto size = static_cast<std::uint64_t>(file.tellg());
  constexpr std::uint64_t places = 64;
  std::vector<char> block(16 * 1024);
  std::uint64_t hash = 0xCBF29CE484222325ULL ^ size;  // FNV-1a
  const auto add = [&hash](char byte) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3ULL;
  };
  std::for_each(settings.begin(), settings.end(), add);
  for (std::uint64_t i = 0; i <= places; ++i) {
    const auto last = size > block.size() ? size - block.size() : 0;
    file.clear();
    file.seekg(static_cast<std::streamoff>(last / places * i + (i == places ? last % places : 0)));
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    std::for_each(block.begin(), block.begin() + file.gcount(), add);
  }
  return hash == 0 ? 1 : hash;
}

net::link_handler handler_for(const cluster_actor& cluster, const node_description& self) {
  net::link_handler h;
  // The incarnation may have grown since; membership tells at once.
  member_record own;
  own.node = std::make_shared<const node_description>(self);
  own.incarnation = 1;
  h.greeting = [bytes = encode_hello(own)] { return bytes; };
  h.host_of = [](const std::string& greeting) {
    const auto hello = decode_hello(greeting);
    return hello ? net::host_part(hello->node.address) : std::string{};
  };
  const auto post = [cluster](link_event e) { caf::anon_send(cluster, std::move(e)); };
  h.opened = [post](net::link_id id, std::string dialled, std::string greeting) {
    post({link_event::kind::opened, id, std::move(greeting), std::move(dialled), {}});
  };
  h.received = [post](net::link_id id, std::string frame) {
    post({link_event::kind::received, id, std::move(frame), {}, {}});
  };
  h.closed = [post](net::link_id id, std::string why) {
    post({link_event::kind::closed, id, std::move(why), {}, {}});
  };
  h.resolved = [post](std::vector<std::string> addresses) {
    post({link_event::kind::resolved, 0, {}, {}, std::move(addresses)});
  };
  return h;
}

void cluster_state::on_link(link_event& e) {
  switch (e.what) {
    case link_event::kind::opened:
      open_link(e);
      break;
    case link_event::kind::received: {
      options.links->handled(e.link, e.bytes.size());
      const auto found = peers.find(e.link);
      if (found == peers.end()) return;
      const auto from = found->second.id;
      const auto m = decode(e.bytes);
      if (!m) {
        // A newer protocol's message, or nonsense; neither is worth a broken link.
        spdlog::debug("cluster: a message of {} does not decode", to_string(from));
        return;
      }
      node->on_message(from, *m, now());
      on_message(from, *m);
      break;
    }
    case link_event::kind::closed:
      if (const auto found = peers.find(e.link); found != peers.end())
        spdlog::info("cluster: link with {} closed: {}", to_string(found->second.id), e.bytes);
      close_link(e.link);
      break;
    case link_event::kind::resolved:
      e.addresses.insert(e.addresses.end(), options.seeds.begin(), options.seeds.end());
      node->set_seeds(std::move(e.addresses));
      break;
  }
  carry_out(node->take());
}

void cluster_state::open_link(link_event& e) {
  const auto& own = *node->members().own().node;
  auto hello = decode_hello(e.bytes);
  const auto reason = hello ? check_hello(own, hello->node) : refusal::malformed;
  if (reason == refusal::itself) reached[e.dialled] = own.id;
  if (reason != refusal::none) {
    const auto why = hello ? explain(reason, own, hello->node) : std::string("the greeting makes no sense");
    if (reason != refusal::itself) {
      options.counters->refused_peers.fetch_add(1, relaxed);
      spdlog::warn("cluster: refusing {}: {}", hello ? hello->node.address : e.dialled, why);
    }
    return options.links->close(e.link, why);
  }
  const auto& id = hello->node.id;
  if (!e.dialled.empty()) reached[e.dialled] = id;
  const bool ours = !e.dialled.empty();
  if (const auto known = link_of.find(id); known != link_of.end()) {
    const auto& old = peers.at(known->second);
    const bool newer_wins = old.dialled_by_us == ours || link_wins(ours ? own.id : id, ours ? id : own.id);
    const auto loser = newer_wins ? known->second : e.link;
    if (newer_wins) {
      peers.erase(known->second);
      peers[e.link] = {id, ours, now()};
      known->second = e.link;
    }
    options.links->close(loser, "another link with the same node");
    if (!newer_wins) return;
  } else {
    peers[e.link] = {id, ours, now()};
    link_of[id] = e.link;
  }
  spdlog::info("cluster: linked with {} at {}", to_string(id), hello->node.address);
  node->on_hello(*hello, now());
}

void cluster_state::close_link(net::link_id link) {
  const auto found = peers.find(link);
  if (found == peers.end()) return;
  const auto id = found->second.id;
  peers.erase(found);
  link_of.erase(id);
  node->on_disconnected(id, now());
  // What was on the way is lost, so the streams are, although the node may live.
  for (auto& [number, r] : remotes) {
    if (r.node != id || !std::exchange(r.announced, false)) continue;
    self->send(options.router, withdraw_atom_v, r.board->id, r.board->incarnation);
  }
  lose_streams_on(id);
  cancel_streams_of(id);
  if (const auto* m = node->members().find(id); m != nullptr && !m->record.gone())
    dial(m->record.node->address, true);
}

void cluster_state::send(const node_id& to, const message& m) {
  const auto link = link_of.find(to);
  if (link != link_of.end())
    options.links->send(link->second, std::make_shared<const std::string>(encode(m)));
}

void cluster_state::carry_out(cluster::node::outputs out) {
  const message* last = nullptr;
  std::shared_ptr<const std::string> bytes;
  for (const auto& [to, m] : out.sends) {
    const auto link = link_of.find(to);
    if (link == link_of.end()) {
      if (const auto* member = node->members().find(to)) dial(member->record.node->address, false);
      continue;
    }
    if (m.get() != last) bytes = std::make_shared<const std::string>(encode(*m)), last = m.get();
    options.links->send(link->second, bytes);
  }
  for (const auto& address : out.dials) {
    const auto known = reached.find(address);
    const bool there = known != reached.end() &&
                       (known->second == node->members().self() || link_of.contains(known->second));
    if (!there) dial(address, false);
  }
  for (const auto& e : out.events) {
    const auto* m = node->members().find(e.who);
    const auto address = m == nullptr ? std::string{} : m->record.node->address;
    const auto state = to_string(node->state_of(e.who));
    switch (e.what) {
      case cluster::node::event::kind::reachable:
        spdlog::info("cluster: {} answers again", address);
        break;
      case cluster::node::event::kind::unreachable:
        spdlog::warn("cluster: {} does not answer; it gets nothing new", address);
        break;
      case cluster::node::event::kind::lost:
        spdlog::warn("cluster: {} is {}", address, state);
        if (const auto link = link_of.find(e.who); link != link_of.end()) {
          options.links->close(link->second, fmt::format("the node is {}", state));
          peers.erase(link->second);
          link_of.erase(link);
        }
        drop_remotes(e.who);
        cancel_streams_of(e.who);
        break;
      case cluster::node::event::kind::changed:
        spdlog::info("cluster: {} is {}", address, state);
        break;
    }
  }
}

void cluster_state::dial(const std::string& address, bool at_once) {
  auto& last = dialled[address];
  if (leaving || (!at_once && last != steady_time{} && now() - last < dial_every)) return;
  last = now();
  options.links->dial(address);
}

void cluster_state::connect_neighbours() {
  for (const auto& id : node->watched()) {
    if (link_of.contains(id)) continue;
    if (const auto* m = node->members().find(id)) dial(m->record.node->address, false);
  }
  std::erase_if(dialled, [this](const auto& d) { return now() - d.second > keep_unused; });
  std::erase_if(reached, [this](const auto& r) { return !dialled.contains(r.first); });
  const auto& watched = node->watched();
  for (const auto& [link, p] : peers) {
    if (now() - p.since < keep_unused || std::binary_search(watched.begin(), watched.end(), p.id)) continue;
    const bool used =
        std::any_of(serves.begin(), serves.end(), [&](const auto& s) { return s.second.gateway == p.id; }) ||
        std::any_of(forwards.begin(), forwards.end(),
                    [&](const auto& f) { return remotes.at(f.second.remote).node == p.id; });
    if (!used) options.links->close(link, "not needed any more");
  }
}

std::vector<worker_load> cluster_state::own_load() const {
  std::vector<worker_load> loads;
  for (const auto& w : workers) {
    const auto& b = *w.board;
    loads.push_back({b.id, b.incarnation, w.capacity, b.running.load(relaxed), b.queued.load(relaxed),
                     b.streams.load(relaxed), b.kv_blocks_used.load(relaxed),
                     b.kv_blocks_total.load(relaxed)});
  }
  return loads;
}

void cluster_state::declare() {
  if (leaving) return;
  node->declare(draining          ? declaration::draining
                : workers.empty() ? declaration::joining
                                  : declaration::alive);
}

void cluster_state::sync_remotes() {
  std::set<std::uint64_t> offered;
  for (const auto& id : node->watched()) {
    const auto* load = node->load_of(id);
    if (load == nullptr || now() - load->at > stale_after || !node->routable(id) || !link_of.contains(id))
      continue;
    for (const auto& w : load->workers) {
      auto found = std::find_if(remotes.begin(), remotes.end(), [&](const auto& r) {
        return r.second.node == id && r.second.worker == w.worker && r.second.incarnation == w.incarnation;
      });
      if (found == remotes.end()) {
        remote r{id, w.worker, w.incarnation, w.capacity, {}, {}, false, {}};
        r.board = std::make_shared<worker_board>(remote_id(id, w.worker), w.incarnation);
        r.board->remote = true;
        const auto number = ++last_number;
        r.handle = self->spawn(remote_worker, remote_worker_options{cluster_actor(self), number, r.board});
        found = remotes.emplace(number, std::move(r)).first;
      }
      auto& r = found->second;
      offered.insert(found->first);
      if (r.reported != load->at) {
        r.reported = load->at;
        r.board->running.store(w.running, relaxed);
        r.board->queued.store(w.queued, relaxed);
        r.board->streams.store(w.streams, relaxed);
        r.board->kv_blocks_used.store(w.kv_blocks_used, relaxed);
        r.board->kv_blocks_total.store(w.kv_blocks_total, relaxed);
      }
      if (!std::exchange(r.announced, true))
        self->send(options.router, announce_atom_v, announced_worker{r.handle, r.board, r.capacity});
    }
  }
  for (auto it = remotes.begin(); it != remotes.end();) {
    auto& [number, r] = *it;
    if (!offered.contains(number) && std::exchange(r.announced, false))
      self->send(options.router, withdraw_atom_v, r.board->id, r.board->incarnation);
    const auto used = std::any_of(forwards.begin(), forwards.end(),
                                  [n = number](const auto& f) { return f.second.remote == n; });
    if (offered.contains(number) || used) {
      ++it;
      continue;
    }
    // Its node reports another incarnation, or nothing: a later announcement brings a new one.
    self->send_exit(r.handle, caf::exit_reason::user_shutdown);
    it = remotes.erase(it);
  }
}

void cluster_state::drop_remotes(const node_id& node_of) {
  for (auto& [number, r] : remotes)
    if (r.node == node_of && std::exchange(r.announced, false))
      self->send(options.router, withdraw_atom_v, r.board->id, r.board->incarnation);
  lose_streams_on(node_of);
}

void cluster_state::tick() {
  self->delayed_send(self, tick_period, tick_atom_v);
  const auto time = now();
  declare();
  node->set_load(leaving ? std::vector<worker_load>{} : own_load());
  const auto before = node->detector().lag();
  node->tick(time);
  const auto late = node->detector().lag() - before;
  carry_out(node->take());
  connect_neighbours();
  sync_remotes();
  tick_streams(late);
  options.published->publish(describe());
  if (!options.dns.empty() && (resolved == steady_time{} || time - resolved >= options.resolve_every)) {
    resolved = time;
    options.links->resolve(options.dns, options.dns_port);
  }
  count();
  if (reported != steady_time{} && time - reported < health_period) return;
  reported = time;
  report_health();
}

void cluster_state::count() {
  std::array<std::uint64_t, 6> members{};
  for (const auto& [id, m] : node->members().members())
    ++members[static_cast<std::size_t>(node->state_of(id))];
  auto& c = *options.counters;
  for (std::size_t i = 0; i < members.size(); ++i) c.members[i].store(members[i], relaxed);
  c.links.store(peers.size(), relaxed);
  c.served.store(serves.size(), relaxed);
  c.forwarded.store(forwards.size(), relaxed);
  c.lag_ms.store(static_cast<std::uint64_t>(
                     std::chrono::duration_cast<std::chrono::milliseconds>(node->detector().lag()).count()),
                 relaxed);
}

void cluster_state::report_health() {
  // A lost peer takes nothing from what this node can do: the component says what is so and stays healthy.
  // Only its own silence makes it unhealthy.
  std::string lost;
  std::size_t reachable = 0;
  for (const auto& [id, m] : node->members().members()) {
    const auto state = node->state_of(id);
    if (state == member_state::suspect || state == member_state::dead)
      lost += fmt::format("{}{} ({})", lost.empty() ? "" : ", ", m.record.node->address, to_string(state));
    else if (state != member_state::left)
      ++reachable;
  }
  component_report r;
  r.component = "cluster";
  r.status = health_status::healthy;
  r.message = fmt::format("{} member{} reachable{}{}.", reachable, reachable == 1 ? "" : "s",
                          lost.empty() ? "" : "; not reachable: ", lost);
  r.period_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(health_period).count());
  if (options.aggregator) self->send(options.aggregator, std::move(r));
}

void cluster_state::leave() {
  hand_back();
  leaving = true;
  node->declare(declaration::left);
  carry_out(node->take());
}

cluster_actor::behavior_type cluster_member(instrumented_pointer<cluster_actor, cluster_state> self,
                                            cluster_options options) {
  auto& s = self->state;
  s.options = std::move(options);
  cluster::node_options o;
  o.detector = s.options.detector;
  o.seeds = s.options.seeds;
  o.seed = std::random_device{}();
  s.node.emplace(s.options.self, first_incarnation(), std::move(o), s.now());
  self->set_down_handler([self](caf::down_msg& down) {
    std::erase_if(self->state.workers,
                  [&](const announced_worker& w) { return w.handle.address() == down.source; });
  });
  self->send(self, tick_atom_v);
  return {
      [self](link_event& e) { self->state.on_link(e); },
      [self](tick_atom) { self->state.tick(); },
      [self](announce_atom, announced_worker& worker) {
        auto& all = self->state.workers;
        std::erase_if(all, [&](const announced_worker& w) { return w.board->id == worker.board->id; });
        self->monitor(worker.handle);
        all.push_back(std::move(worker));
      },
      [self](withdraw_atom, std::uint64_t id, std::uint64_t incarnation) {
        std::erase_if(self->state.workers, [&](const announced_worker& w) {
          return w.board->id == id && w.board->incarnation == incarnation;
        });
      },
      [self](submit_atom, std::uint64_t number, engine::generation_request& request, std::uint32_t attempt,
             const token_sink_actor& sink) { return self->state.submit(number, request, attempt, sink); },
      [self](cancel_atom, std::uint64_t number, engine::request_id request) {
        self->state.cancel(number, request);
      },
      [self](token_frame& frame) { self->state.on_frame(frame); },
      [self](drain_atom) {
        self->state.draining = true;
        return true;
      },
      [self](undrain_atom) { self->state.draining = false; },
      [self](stop_atom) {
        self->state.leave();
        return true;
      },
      [self](status_atom) { return self->state.describe(); },
      [self](reload_atom) {
        const auto reloaded = self->state.options.links->reload();
        if (reloaded)
          spdlog::info("cluster: certificates read again");
        else
          spdlog::error("cluster: {}; the old certificates stay in use", reloaded.error());
      },
  };
}

}  // namespace bitnet::actors::cluster
