#include "actors/cluster/node.hpp"

#include <algorithm>
#include <utility>

namespace bitnet::actors::cluster {

node::node(node_description self, std::uint64_t incarnation, node_options options, steady_time now)
    : options_(std::move(options)),
      map_(std::move(self), incarnation),
      detector_(options_.detector, options_.seed),
      random_(static_cast<std::minstd_rand::result_type>(options_.seed)),
      last_change_(now) {}

void node::send(const node_id& to, message m) {
  out_.sends.emplace_back(to, std::make_shared<const message>(std::move(m)));
}

void node::note(event::kind what, const node_id& who) {
  out_.events.push_back({what, who});
}

void node::declare(declaration what) {
  if (!map_.declare(what)) return;
  news_.insert(map_.self());
  if (what == declaration::left) spread();  // there may be no next tick
}

void node::on_hello(const hello& greeting, steady_time now) {
  member_record record;
  record.node = std::make_shared<const node_description>(greeting.node);
  record.incarnation = greeting.incarnation;
  record.declared = greeting.declared;
  if (const auto* known = map_.find(greeting.node.id);
      known != nullptr && known->record.incarnation >= record.incarnation) {
    // It does not know what is said of it: the exchange below tells.
  } else {
    merge(record, greeting.node.id, now);
    corrections_.clear();  // all is sent below
  }
  detector_.heard(greeting.node.id, now);
  send_all(greeting.node.id, false);
}

void node::on_disconnected(const node_id& from, steady_time now) {
  detector_.disconnected(from, now);
}

void node::on_message(const node_id& from, const message& m, steady_time now) {
  detector_.heard(from, now);
  std::visit(
      [&](const auto& x) {
        if constexpr (requires { on(from, x, now); }) on(from, x, now);
      },
      m);
  if (const auto* answer = std::get_if<probe_answer>(&m)) detector_.vouched(answer->target, now);
}

void node::on(const node_id& from, const ping& m, steady_time now) {
  send(from, ack{m.seq, map_.digest()});
  if (const auto* sender = map_.find(from); sender != nullptr && !sender->record.gone())
    reports_[from] = {m.workers, now};
  compare(from, m.digest, now);
}

void node::on(const node_id& from, const ack& m, steady_time now) {
  detector_.acknowledged(from, m.seq, now);
  compare(from, m.digest, now);
  const auto waiting = probes_.equal_range(from);
  for (auto it = waiting.first; it != waiting.second; ++it)
    if (it->second.second >= now) send(it->second.first, probe_answer{from});
  probes_.erase(waiting.first, waiting.second);
}

void node::on(const node_id& from, const probe_request& m, steady_time now) {
  if (m.target == map_.self() || probes_.size() >= 256 || map_.find(m.target) == nullptr) return;
  probes_.emplace(m.target, std::pair{from, now + options_.detector.indirect_every * 2});
  send(m.target, ping{0, map_.digest(), {}});
}

void node::on(const node_id& from, const gossip& m, steady_time now) {
  for (const auto& record : m.members) merge(record, from, now);
  auto corrections = std::exchange(corrections_, {});
  if (m.reply)
    send_all(from, false);
  else if (!corrections.empty())
    send(from, gossip{std::move(corrections), false, false});
}

void node::merge(const member_record& record, const node_id& from, steady_time now) {
  const auto& id = record.node->id;
  // Whoever hears a member directly does not believe that it is dead; the member itself must contradict.
  if (record.dead && id != map_.self() && id != from && detector_.fresh(id, now) && !detector_.suspect(id)) {
    if (const auto* known = map_.find(id);
        known != nullptr && known->record.incarnation <= record.incarnation) {
      send(id, gossip{{record}, false, false});
      return;
    }
  }
  const auto* before = map_.find(id);
  const bool was_gone = before != nullptr && before->record.gone();
  switch (map_.merge(record, now)) {
    case member_map::effect::none:
      return;
    case member_map::effect::outdated:
      // Not news, but for the one who said it. Digests lead to it too, only later.
      corrections_.push_back(map_.find(id)->record);
      return;
    case member_map::effect::added:
      break;
    case member_map::effect::changed:
      if (record.gone() && !was_gone) {
        reports_.erase(id);
        note(event::kind::lost, id);
      } else if (!record.gone()) {
        note(event::kind::changed, id);
      }
      break;
    case member_map::effect::refuted:
      break;
  }
  news_.insert(id);
  map_changed_ = true;
  last_change_ = now;
}

void node::compare(const node_id& from, std::uint64_t digest, steady_time now) {
  // While news travel, digests differ without need.
  if (digest == map_.digest() || now - last_change_ < options_.sync_every ||
      now - last_sync_ < options_.sync_every)
    return;
  last_sync_ = now;
  send_all(from, true);
}

void node::send_all(const node_id& to, bool reply) {
  gossip m;
  m.full = true;
  for (const auto& [id, member] : map_.members()) {
    m.members.push_back(member.record);
    if (m.members.size() < max_gossip_records) continue;
    send(to, std::exchange(m, gossip{{}, true, false}));
  }
  m.reply = reply;
  if (reply || !m.members.empty()) send(to, std::move(m));
}

void node::spread() {
  gossip m;
  auto flush = [&] {
    if (m.members.empty()) return;
    const auto shared = std::make_shared<const message>(std::exchange(m, {}));
    for (const auto& to : neighbours_) out_.sends.emplace_back(to, shared);
  };
  for (const auto& id : std::exchange(news_, {})) {
    const auto* known = map_.find(id);
    if (known == nullptr) continue;
    m.members.push_back(known->record);
    if (m.members.size() == max_gossip_records) flush();
  }
  flush();
}

void node::look_for_others(steady_time now) {
  if (last_join_ != steady_time{} && now - last_join_ < options_.join_every) return;
  last_join_ = now;
  // Somebody who was cut off does not know where we are either: one lost member at a time, in turn.
  std::vector<const std::string*> lost;
  std::set<std::string_view> present;
  for (const auto& [id, m] : map_.members()) {
    if (m.record.dead)
      lost.push_back(&m.record.node->address);
    else if (!m.record.gone())
      present.insert(m.record.node->address);
  }
  for (const auto& address : options_.seeds)
    if (!present.contains(address)) out_.dials.push_back(address);
  if (lost.empty()) return;
  std::uniform_int_distribution<std::size_t> any(0, lost.size() - 1);
  const auto& chosen = *lost[any(random_)];
  if (!present.contains(chosen) &&
      std::find(out_.dials.begin(), out_.dials.end(), chosen) == out_.dials.end())
    out_.dials.push_back(chosen);
}

void node::tick(steady_time now) {
  if (std::exchange(map_changed_, false)) {
    neighbours_ = neighbours(map_);
    detector_.watch(neighbours_, now);
  }
  auto decided = detector_.tick(now);
  if (!decided.pings.empty()) {
    for (const auto& [to, seq] : decided.pings) send(to, ping{seq, map_.digest(), load_});
  }
  for (const auto& [to, about] : decided.probe_requests) send(to, probe_request{about});
  for (const auto& id : decided.recovered) note(event::kind::reachable, id);
  for (const auto& id : decided.suspects) note(event::kind::unreachable, id);
  for (const auto& id : decided.dead) {
    if (!map_.claim_dead(id, now)) continue;
    reports_.erase(id);
    news_.insert(id);
    map_changed_ = true;
    last_change_ = now;
    note(event::kind::lost, id);
  }
  spread();
  std::erase_if(probes_, [now](const auto& p) { return p.second.second < now; });
  map_.forget(now);
  look_for_others(now);
}

member_state node::state_of(const node_id& id) const {
  const auto* m = map_.find(id);
  if (m == nullptr) return member_state::dead;
  if (m->record.declared == declaration::left) return member_state::left;
  if (m->record.dead) return member_state::dead;
  if (detector_.suspect(id)) return member_state::suspect;
  switch (m->record.declared) {
    case declaration::joining:
      return member_state::joining;
    case declaration::draining:
      return member_state::draining;
    case declaration::alive:
    case declaration::left:
      break;
  }
  return member_state::alive;
}

bool node::routable(const node_id& id) const {
  return id == map_.self() || (detector_.watches(id) && state_of(id) == member_state::alive);
}

const node::load_report* node::load_of(const node_id& id) const {
  const auto found = reports_.find(id);
  return found == reports_.end() ? nullptr : &found->second;
}

}  // namespace bitnet::actors::cluster
