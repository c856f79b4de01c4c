#include "tests/unit/actors/cluster/simulation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace bitnet::tests {

using cluster::declaration;
using cluster::message;
using cluster::node_id;
using kind = cluster::node::event::kind;

std::uint32_t simulated_token(std::uint64_t seed, std::size_t position) {
  std::uint64_t x = seed * 0x9E3779B97F4A7C15ULL + position;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return static_cast<std::uint32_t>(x >> 40);
}

namespace {

constexpr milliseconds tick_period{100};
/// What a worker of the simulation needs of a request: seed, length, tokens so far.
struct job {
  std::uint64_t seed = 0;
  std::uint32_t length = 0;
  std::uint32_t position = 0;
};

std::string pack(const void* data, std::size_t size) {
  return {static_cast<const char*>(data), size};
}

actors::token_frame to_frame(std::uint64_t key, const cluster::stream_frame& f) {
  actors::token_frame frame;
  frame.request = key;
  frame.attempt = f.attempt;
  frame.seq = f.seq;
  for (std::size_t i = 0; i + 4 <= f.payload.size(); i += 4) {
    std::uint32_t id = 0;
    std::memcpy(&id, f.payload.data() + i, 4);
    frame.tokens.push_back({id, 0.0F, {}});
  }
  if (f.last) frame.finish = engine::finish_reason::length;
  return frame;
}

}  // namespace

struct simulation::client {
  std::size_t gateway = 0;
  std::uint64_t epoch = 0;  ///< of the gateway's process
  std::uint64_t seed = 0;
  std::uint32_t length = 0;
  std::uint32_t delivered = 0;
  bool finished = false;
  bool refused = false;
  std::uint32_t next_seq = 0;
  steady_time last{};
  milliseconds longest_gap{0};
};

struct simulation::machine {
  explicit machine(std::size_t i) : address(fmt::format("n{}:7400", i)) {}

  std::string address;
  std::uint64_t epoch = 0;  ///< counts the processes
  bool running = false;
  steady_time stopped_at{};  ///< crashed or left
  steady_time paused_until{};
  steady_time last_pause{};
  std::optional<steady_time> leaves;
  std::vector<event> backlog;  ///< while paused

  std::optional<cluster::node> node;

  // Worker.
  struct served {
    node_id gateway;
    std::uint64_t stream = 0;
    std::uint32_t attempt = 0;
    job work;
    cluster::served_stream out;
    bool own = false;  ///< the gateway is this node
  };
  std::vector<served> serves;
  steady_time alive_sent{};

  // Gateway.
  struct forwarded {
    std::size_t client = 0;
    std::optional<node_id> peer;  ///< nothing: here
    std::optional<cluster::forwarded_stream> in;
  };
  actors::stream_table table;
  std::map<std::uint64_t, forwarded> forwards;
  cluster::retry_budget budget;
  std::minstd_rand random;
  steady_time last_tick{};
  std::size_t resumed = 0;
};

struct simulation::event {
  enum class type : std::uint8_t { tick, step, deliver, hello, disconnected } what = type::tick;
  steady_time when{};
  std::uint64_t order = 0;
  std::size_t to = 0;
  std::uint64_t epoch = 0;
  node_id from{};
  cluster::node::shared_message m;
  std::shared_ptr<cluster::hello> greeting;
};

bool simulation::later::operator()(const event& a, const event& b) const {
  return a.when != b.when ? a.when > b.when : a.order > b.order;
}

simulation::simulation(options o)
    : options_(o), random_(o.seed * 0x2545F4914F6CDD1DULL + 1), now_(std::chrono::hours(1)) {
  for (std::size_t i = 0; i < o.nodes; ++i) machines_.push_back(std::make_unique<machine>(i));
  for (std::size_t i = 0; i < o.nodes; ++i) start(i);
}

simulation::~simulation() = default;

bool simulation::chance(double p) {
  return p > 0 && std::uniform_real_distribution<double>(0, 1)(random_) < p;
}

milliseconds simulation::delay() {
  const auto& n = options_.network;
  return milliseconds(
      std::uniform_int_distribution<std::int64_t>(n.delay_min.count(), n.delay_max.count())(random_));
}

bool simulation::open(std::size_t from, std::size_t to) const {
  const auto found = cut_.find({from, to});
  return found == cut_.end() || !found->second;
}

void simulation::fail(std::string why) {
  if (violation_.empty()) violation_ = fmt::format("seed {}: {}", options_.seed, why);
}

void simulation::at(steady_time when, event e) {
  e.when = when;
  e.order = ++order_;
  queue_.push(std::move(e));
}

bool simulation::up(std::size_t i) const {
  return machines_[i]->running;
}
bool simulation::paused(std::size_t i) const {
  return machines_[i]->paused_until > now_;
}
const cluster::node& simulation::node_at(std::size_t i) const {
  return *machines_[i]->node;
}

void simulation::start(std::size_t i) {
  auto& m = *machines_[i];
  if (m.running) return;
  ++m.epoch;
  m.running = true;
  m.paused_until = {};
  m.leaves.reset();
  m.backlog.clear();
  m.serves.clear();
  m.forwards.clear();
  m.table = actors::stream_table{};
  m.budget = {};
  m.random.seed(static_cast<std::uint32_t>(random_()));
  m.last_tick = now_;
  cluster::node_description d;
  for (std::size_t b = 0; b < 16; b += 8) {
    const std::uint64_t word = random_();
    std::memcpy(&d.id.bytes[b], &word, 8);
  }
  d.address = m.address;
  d.build = std::string(1, '1');
  d.model = m.address.substr(0, 1);
  d.capacity = static_cast<std::uint32_t>(options_.worker_capacity);
  index_[d.id] = i;
  cluster::node_options o;
  o.seed = random_();
  for (std::size_t s = 0; s < std::min<std::size_t>(3, machines_.size()); ++s)
    o.seeds.push_back(machines_[s]->address);
  m.node.emplace(std::move(d), m.epoch, std::move(o), now_);
  m.node->declare(declaration::alive);
  const auto phase = milliseconds(std::uniform_int_distribution<int>(0, 99)(random_));
  event t;
  t.what = event::type::tick;
  t.to = i;
  t.epoch = m.epoch;
  at(now_ + phase, t);
  if (!options_.worker) return;
  t.what = event::type::step;
  at(now_ + phase, t);
}

void simulation::crash(std::size_t i, bool host_too) {
  auto& m = *machines_[i];
  if (!m.running) return;
  m.running = false;
  m.stopped_at = now_;
  const auto id = m.node->members().self();
  if (host_too) return;
  for (std::size_t j = 0; j < machines_.size(); ++j) {
    auto& other = *machines_[j];
    if (j == i || !other.running || !other.node->detector().watches(id) || !open(i, j)) continue;
    event e;
    e.what = event::type::disconnected;
    e.to = j;
    e.epoch = other.epoch;
    e.from = id;
    at(now_ + delay(), e);
  }
}

void simulation::pause(std::size_t i, milliseconds duration) {
  auto& m = *machines_[i];
  if (m.running) m.paused_until = m.last_pause = std::max(m.paused_until, now_ + duration);
}

void simulation::isolate(std::size_t i, bool yes) {
  for (std::size_t j = 0; j < machines_.size(); ++j)
    if (j != i) cut(i, j, yes), cut(j, i, yes);
}

void simulation::heal() {
  cut_.clear();
}

void simulation::drain(std::size_t i) {
  auto& m = *machines_[i];
  if (!m.running || m.leaves) return;
  m.node->declare(declaration::draining);
  m.leaves = now_ + milliseconds(1000);
}

void simulation::run(milliseconds duration) {
  const auto end = now_ + duration;
  while (!queue_.empty() && queue_.top().when <= end && violation_.empty()) {
    auto e = queue_.top();
    queue_.pop();
    now_ = e.when;
    auto& m = *machines_[e.to];
    if (!m.running || m.epoch != e.epoch) continue;
    if (paused(e.to)) {
      const auto wake = m.paused_until;
      at(wake, std::move(e));  // the kernel keeps it
      continue;
    }
    handle(e);
  }
  now_ = end;
}

void simulation::handle(event& e) {
  auto& m = *machines_[e.to];
  switch (e.what) {
    case event::type::tick:
      tick(e.to);
      e.what = event::type::tick;
      if (m.running) at(now_ + tick_period, e);
      return;
    case event::type::step:
      step(e.to);
      at(now_ + options_.step, e);
      return;
    case event::type::deliver:
      m.node->on_message(e.from, *e.m, now_);
      serve(e.to, e.from, *e.m);
      receive(e.to, e.from, *e.m);
      break;
    case event::type::hello:
      m.node->on_hello(*e.greeting, now_);
      break;
    case event::type::disconnected:
      m.node->on_disconnected(e.from, now_);
      std::erase_if(m.serves, [&](const auto& s) { return !s.own && s.gateway == e.from; });
      std::vector<std::uint64_t> lost;
      for (auto& [k, f] : m.forwards)
        if (f.peer == e.from) lost.push_back(k);
      for (const auto k : lost) lose(e.to, k);
      break;
  }
  flush(e.to);
}

void simulation::send(std::size_t from, const node_id& to, message m) {
  send(from, to, std::make_shared<const message>(std::move(m)));
}

void simulation::send(std::size_t from, const node_id& to, cluster::node::shared_message m) {
  const auto target = index_.find(to);
  if (target == index_.end()) return;
  ++messages_;
  auto& there = *machines_[target->second];
  if (options_.through_codec) {
    const auto bytes = cluster::encode(*m);
    bytes_ += bytes.size();
    if (bytes.size() > cluster::max_message_bytes) return fail("a message over the limit");
    auto decoded = cluster::decode(bytes);
    if (!decoded) return fail("a message does not decode");
    m = std::make_shared<const message>(std::move(*decoded));
  }
  if (!open(from, target->second) || !there.running || there.node->members().self() != to) return;
  event e;
  e.what = event::type::deliver;
  e.to = target->second;
  e.epoch = there.epoch;
  e.from = machines_[from]->node->members().self();
  e.m = std::move(m);
  if (chance(options_.network.duplicate)) at(now_ + delay(), e);
  if (!chance(options_.network.drop)) at(now_ + delay(), std::move(e));
}

void simulation::dial(std::size_t from, const std::string& address) {
  for (std::size_t to = 0; to < machines_.size(); ++to) {
    auto& there = *machines_[to];
    if (there.address != address) continue;
    if (to == from || !there.running || !open(from, to) || !open(to, from) || paused(to)) return;
    auto& here = *machines_[from];
    if (chance(options_.network.drop)) return;
    auto greet = [&](std::size_t who, std::size_t whom) {
      const auto& own = machines_[who]->node->members().own();
      event e;
      e.what = event::type::hello;
      e.to = whom;
      e.epoch = machines_[whom]->epoch;
      e.greeting = std::make_shared<cluster::hello>(cluster::hello{*own.node, own.incarnation, own.declared});
      at(now_ + delay() + delay(), std::move(e));
    };
    if (check_hello(*here.node->members().own().node, *there.node->members().own().node) !=
        cluster::refusal::none)
      return;
    greet(from, to);
    greet(to, from);
    return;
  }
}

void simulation::flush(std::size_t i) {
  auto& m = *machines_[i];
  auto out = m.node->take();
  for (auto& [to, what] : out.sends) send(i, to, std::move(what));
  for (const auto& address : out.dials) dial(i, address);
  for (const auto& e : out.events) {
    const auto about = index_.at(e.who);
    const auto& other = *machines_[about];
    const bool current = other.running && other.node->members().self() == e.who;
    log_.push_back({now_, i, about, e.what, current});
    if (e.what != kind::lost) continue;
    std::erase_if(m.serves, [&](const auto& s) { return !s.own && s.gateway == e.who; });
    std::vector<std::uint64_t> lost;
    for (auto& [k, f] : m.forwards)
      if (f.peer == e.who) lost.push_back(k);
    for (const auto k : lost) lose(i, k);
  }
}

void simulation::lose(std::size_t i, std::uint64_t key) {
  auto& m = *machines_[i];
  auto& f = m.forwards.at(key);
  auto* stream = m.table.find(key);
  if (stream == nullptr || !stream->in_flight()) return;
  if (f.peer) send(i, *f.peer, cluster::stream_cancel{key, f.in->attempt()});
  m.table.lose(key, now_);
  f.in.reset();
  f.peer.reset();
  ++m.resumed;
}

void simulation::tick(std::size_t i) {
  auto& m = *machines_[i];
  std::vector<cluster::worker_load> loads;
  if (options_.worker)
    loads.push_back({1, m.epoch, options_.worker_capacity, m.serves.size(), 0, m.serves.size(), 0, 1});
  m.node->set_load(std::move(loads));
  const auto before = m.node->detector().lag();
  m.node->tick(now_);
  const auto late = m.node->detector().lag() - before;
  for (auto& [k, f] : m.forwards)
    if (f.in && late.count() > 0) f.in->take_off(late);
  flush(i);

  if (now_ - m.alive_sent >= milliseconds(500)) {
    m.alive_sent = now_;
    std::map<node_id, cluster::stream_alive> words;
    for (const auto& s : m.serves)
      if (!s.own) words[s.gateway].streams.push_back(s.out.alive());
    for (auto& [to, word] : words) send(i, to, std::move(word));
  }
  std::vector<std::uint64_t> stalled;
  for (const auto& [k, f] : m.forwards)
    if (f.in && f.in->stalled(now_)) stalled.push_back(k);
  for (const auto k : stalled) lose(i, k);
  pump(i);

  if (m.leaves && now_ >= *m.leaves) {
    // Hand over: gateways hear of the end of each attempt, so they go on elsewhere at once.
    const bool own_left = std::any_of(m.forwards.begin(), m.forwards.end(), [](const auto&) { return true; });
    for (auto& s : m.serves)
      if (!s.own) send(i, s.gateway, cluster::stream_refuse{s.stream, s.attempt, 1, "draining"});
    std::erase_if(m.serves, [](const auto& s) { return !s.own; });
    if (own_left) return;  // its own clients' streams end first
    m.node->declare(declaration::left);
    flush(i);
    m.running = false;
    m.stopped_at = now_;
  }
}

void simulation::request(std::size_t gateway, std::uint32_t length) {
  auto& m = *machines_[gateway];
  if (!m.running || paused(gateway) || m.leaves) return;
  client c;
  c.gateway = gateway;
  c.epoch = m.epoch;
  c.seed = random_();
  c.length = length;
  c.last = now_;
  clients_.push_back(c);
  engine::generation_request r;
  r.id = clients_.size();
  r.prompt = {1, 2, 3};
  r.max_tokens = length;
  r.sampling.seed = c.seed;
  m.budget.on_request();
  const auto key = m.table.add(std::move(r), 1, now_);
  m.forwards[key].client = clients_.size() - 1;
  pump(gateway);
}

void simulation::pump(std::size_t i) {
  auto& m = *machines_[i];
  const auto own = m.node->members().self();
  while (const auto k = m.table.next(now_)) {
    std::vector<cluster::route_candidate> candidates;
    std::vector<std::optional<node_id>> who;
    if (options_.worker) {
      candidates.push_back(
          {short_hash(own), options_.worker_capacity, m.serves.size(), 0, 0, 0, 0, false, now_});
      who.push_back(std::nullopt);
    }
    for (const auto& id : m.node->watched()) {
      const auto* load = m.node->load_of(id);
      if (!m.node->routable(id) || load == nullptr || load->workers.empty()) continue;
      const auto& w = load->workers.front();
      candidates.push_back({short_hash(id), w.capacity, w.streams, 0, 0, 0, 0, true, load->at});
      who.push_back(id);
    }
    const auto chosen = cluster::choose_worker(candidates, 0, std::nullopt, now_, {}, m.random);
    if (!chosen) {
      m.table.postpone(*k, now_);
      continue;
    }
    auto request = m.table.begin(*k, {candidates[*chosen].worker, 1});
    auto& f = m.forwards.at(*k);
    const auto attempt = m.table.find(*k)->attempt();
    const job work{request.sampling.seed, request.max_tokens,
                   static_cast<std::uint32_t>(request.emitted.size())};
    f.peer = who[*chosen];
    f.in.emplace(attempt, now_, cluster::stream_options{});
    if (!f.peer) {
      m.serves.push_back({own, *k, attempt, work, {*k, attempt, ~0ULL}, true});
      m.table.find(*k)->accept(attempt);
      continue;
    }
    const auto target = index_.at(*f.peer);
    const auto& there = *machines_[target];
    const bool gone = !there.running || there.node->members().self() != *f.peer;
    const bool excused = m.last_pause != steady_time{} && now_ - m.last_pause < milliseconds(3000);
    if (gone && !excused && machines_[target]->node->members().self() == *f.peer &&
        now_ - there.stopped_at > milliseconds(2000 + 200 + 500))
      fail(fmt::format("node {} routes to node {} which ended {} ms ago", i, target,
                       std::chrono::duration_cast<milliseconds>(now_ - there.stopped_at).count()));
    send(i, *f.peer,
         cluster::stream_submit{*k, attempt, 1, there.epoch, f.in->credit(), pack(&work, sizeof work)});
  }
}

void simulation::serve(std::size_t i, const node_id& gateway, const message& received) {
  auto& m = *machines_[i];
  const auto find = [&](std::uint64_t stream, std::uint32_t attempt) {
    return std::find_if(m.serves.begin(), m.serves.end(), [&](const auto& s) {
      return !s.own && s.gateway == gateway && s.stream == stream && s.attempt == attempt;
    });
  };
  if (const auto* x = std::get_if<cluster::stream_submit>(&received)) {
    if (find(x->stream, x->attempt) != m.serves.end()) return;  // repeated
    if (m.serves.size() >= options_.worker_capacity || m.leaves)
      return send(i, gateway, cluster::stream_refuse{x->stream, x->attempt, 1, "full"});
    // An older attempt of the stream here is of no use any more.
    std::erase_if(m.serves,
                  [&](const auto& s) { return !s.own && s.gateway == gateway && s.stream == x->stream; });
    job work;
    std::memcpy(&work, x->request.data(), std::min(sizeof work, x->request.size()));
    m.serves.push_back({gateway, x->stream, x->attempt, work, {x->stream, x->attempt, x->credit}, false});
    send(i, gateway, cluster::stream_accept{x->stream, x->attempt});
  } else if (const auto* y = std::get_if<cluster::stream_credit>(&received)) {
    if (const auto s = find(y->stream, y->attempt); s != m.serves.end()) s->out.grant(y->total);
  } else if (const auto* z = std::get_if<cluster::stream_cancel>(&received)) {
    if (const auto s = find(z->stream, z->attempt); s != m.serves.end()) m.serves.erase(s);
  }
}

void simulation::step(std::size_t i) {
  auto& m = *machines_[i];
  std::vector<std::pair<std::uint64_t, actors::token_frame>> own;
  for (auto& s : m.serves) {
    if (s.work.position < s.work.length) {
      const auto token = simulated_token(s.work.seed, s.work.position++);
      s.out.push(1, s.work.position == s.work.length, pack(&token, 4));
    }
    for (auto& frame : s.out.take()) {
      if (s.own)
        own.emplace_back(s.stream, to_frame(s.stream, frame));
      else
        send(i, s.gateway, std::move(frame));
    }
  }
  std::erase_if(m.serves, [](const auto& s) { return s.out.finished(); });
  for (auto& [key, frame] : own) take_frame(i, key, std::move(frame));
}

void simulation::receive(std::size_t i, const node_id& worker, const message& received) {
  auto& m = *machines_[i];
  const auto find = [&](std::uint64_t stream) {
    const auto found = m.forwards.find(stream);
    return found != m.forwards.end() && found->second.peer == worker && found->second.in ? found
                                                                                         : m.forwards.end();
  };
  using verdict = cluster::forwarded_stream::verdict;
  if (const auto* x = std::get_if<cluster::stream_accept>(&received)) {
    const auto f = find(x->stream);
    if (f == m.forwards.end()) return;
    f->second.in->on_accept(x->attempt, now_);
    m.table.find(x->stream)->accept(x->attempt);
  } else if (const auto* y = std::get_if<cluster::stream_refuse>(&received)) {
    const auto f = find(y->stream);
    if (f == m.forwards.end() || f->second.in->attempt() != y->attempt) return;
    m.table.lose(y->stream, now_, milliseconds(100));
    f->second.in.reset();
    f->second.peer.reset();
  } else if (const auto* z = std::get_if<cluster::stream_frame>(&received)) {
    const auto f = find(z->stream);
    if (f == m.forwards.end()) {
      // Nobody waits for it: the cancellation was lost.
      send(i, worker, cluster::stream_cancel{z->stream, z->attempt});
      return;
    }
    switch (f->second.in->on_frame(*z, now_)) {
      case verdict::deliver:
        if (const auto total = f->second.in->grant())
          send(i, worker, cluster::stream_credit{z->stream, z->attempt, *total});
        take_frame(i, z->stream, to_frame(z->stream, *z));
        return;
      case verdict::drop:
        return;
      case verdict::lost:
        lose(i, z->stream);
        return pump(i);
    }
  } else if (const auto* w = std::get_if<cluster::stream_alive>(&received)) {
    for (const auto& entry : w->streams) {
      const auto f = find(entry.stream);
      if (f == m.forwards.end() || f->second.in->attempt() != entry.attempt) {
        send(i, worker, cluster::stream_cancel{entry.stream, entry.attempt});
        continue;
      }
      f->second.in->on_alive(entry, now_);
      m.table.find(entry.stream)->accept(entry.attempt);
      send(i, worker, cluster::stream_credit{entry.stream, entry.attempt, f->second.in->credit()});
    }
  }
}

void simulation::take_frame(std::size_t i, std::uint64_t key, actors::token_frame frame) {
  auto& m = *machines_[i];
  auto* stream = m.table.find(key);
  if (stream == nullptr) return;
  using meaning = actors::resumable_stream::meaning;
  const auto what = stream->take(frame);
  if (what == meaning::dropped) return;
  if (what == meaning::frames_lost) return lose(i, key);
  auto& c = clients_[m.forwards.at(key).client];
  if (c.finished) return fail("frames after the last one");
  if (frame.seq != c.next_seq++) return fail("a client sees a gap in its frames");
  for (const auto& token : frame.tokens) {
    if (token.id != simulated_token(c.seed, c.delivered)) return fail("a stream was altered");
    ++c.delivered;
  }
  c.longest_gap = std::max(c.longest_gap, std::chrono::duration_cast<milliseconds>(now_ - c.last));
  c.last = now_;
  if (what != meaning::ended) return;
  if (c.delivered != c.length) return fail("a stream ended early");
  c.finished = true;
  m.table.erase(key);
  m.forwards.erase(key);
}

simulation::totals simulation::count() const {
  totals t;
  for (const auto& c : clients_) {
    ++t.requests;
    const auto& m = *machines_[c.gateway];
    if (c.finished)
      ++t.finished;
    else if (c.refused)
      ++t.refused;
    else if (!m.running || m.epoch != c.epoch)
      ++t.gateway_lost;
    t.longest_gap = std::max(t.longest_gap, c.longest_gap);
  }
  for (const auto& m : machines_) t.resumed += m->resumed;
  return t;
}

bool simulation::converged() const {
  std::set<node_id> running;
  for (const auto& m : machines_)
    if (m->running) running.insert(m->node->members().self());
  std::optional<std::uint64_t> digest;
  for (const auto& m : machines_) {
    if (!m->running) continue;
    const auto& map = m->node->members();
    if (digest && *digest != map.digest()) return false;
    digest = map.digest();
    if (map.present() != running.size()) return false;
  }
  for (const auto& m : machines_) {
    if (!m->running) continue;
    for (const auto& id : running) {
      const auto* known = m->node->members().find(id);
      if (known == nullptr || known->record.gone()) return false;
    }
    break;  // the digests are equal
  }
  return true;
}

}  // namespace bitnet::tests
