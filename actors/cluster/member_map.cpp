#include "actors/cluster/member_map.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace bitnet::actors::cluster {

namespace {

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
std::uint64_t mix(std::uint64_t x) noexcept {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

bool newer(const member_record& a, const member_record& than) noexcept {
  if (than.declared == declaration::left) return false;
  if (a.incarnation != than.incarnation) return a.incarnation > than.incarnation;
  return a.dead && !than.dead;
}

}  // namespace

std::string_view to_string(member_state state) noexcept {
  switch (state) {
    case member_state::joining:
      return "joining";
    case member_state::alive:
      return "alive";
    case member_state::suspect:
      return "suspect";
    case member_state::dead:
      return "dead";
    case member_state::left:
      return "left";
    case member_state::draining:
      return "draining";
  }
  return "unknown";
}

member_map::member_map(node_description self, std::uint64_t incarnation) : self_(self.id) {
  member_record own;
  own.node = std::make_shared<const node_description>(std::move(self));
  own.incarnation = incarnation;
  members_.emplace(self_, member{own, {}});
  count(own, true);
}

void member_map::count(const member_record& record, bool in) {
  if (record.gone()) return;
  present_ += in ? 1 : std::size_t(-1);
  digest_ ^= mix(short_hash(record.node->id) ^ mix(record.incarnation));
}

void member_map::replace(member& m, const member_record& record, steady_time now) {
  count(m.record, false);
  const bool was_gone = m.record.gone();
  m.record = record;
  if (record.gone() && !was_gone) m.gone_since = now;
  count(m.record, true);
}

bool member_map::declare(declaration what) {
  auto& m = members_.at(self_);
  if (m.record.declared == what || m.record.declared == declaration::left) return false;
  auto record = m.record;
  record.declared = what;
  ++record.incarnation;
  replace(m, record, {});
  return true;
}

member_map::effect member_map::merge(const member_record& record, steady_time now) {
  const auto& id = record.node->id;
  if (id == self_) {
    auto& m = members_.at(self_);
    if (!newer(record, m.record)) return newer(m.record, record) ? effect::outdated : effect::none;
    auto own = m.record;
    own.incarnation = record.incarnation + 1;
    replace(m, own, now);
    return effect::refuted;
  }
  const auto found = members_.find(id);
  if (found == members_.end()) {
    if (record.gone() || members_.size() >= max_members) return effect::none;
    members_.emplace(id, member{record, {}});
    count(record, true);
    return effect::added;
  }
  auto& known = found->second;
  if (newer(record, known.record)) {
    replace(known, record, now);
    return effect::changed;
  }
  return newer(known.record, record) ? effect::outdated : effect::none;
}

bool member_map::claim_dead(const node_id& id, steady_time now) {
  const auto found = members_.find(id);
  if (id == self_ || found == members_.end() || found->second.record.gone()) return false;
  auto record = found->second.record;
  record.dead = true;
  replace(found->second, record, now);
  return true;
}

void member_map::forget(steady_time now) {
  std::erase_if(members_, [&](const auto& entry) {
    const auto& [id, m] = entry;
    return id != self_ && m.record.gone() && now - m.gone_since >= remember_gone;
  });
}

const member_map::member* member_map::find(const node_id& id) const {
  const auto found = members_.find(id);
  return found == members_.end() ? nullptr : &found->second;
}

std::vector<node_id> neighbours(const member_map& map) {
  std::vector<node_id> result;
  const auto add_if_present = [&](const node_id& id, const member_map::member& m) {
    if (id != map.self() && !m.record.gone()) result.push_back(id);
  };
  if (map.present() <= full_mesh) {
    for (const auto& [id, m] : map.members()) add_if_present(id, m);
    return result;
  }
  struct place {
    std::uint64_t own;
    std::uint64_t after = ~0ULL;  ///< distances around the ring
    std::uint64_t before = ~0ULL;
    const node_id* successor = nullptr;
    const node_id* predecessor = nullptr;
  };
  std::array<place, ring_count> rings;
  const auto position = [](const node_id& id, std::size_t ring) { return mix(short_hash(id) + ring); };
  for (std::size_t r = 0; r < ring_count; ++r) rings[r].own = position(map.self(), r);
  for (const auto& [id, m] : map.members()) {
    if (id == map.self() || m.record.gone()) continue;
    for (std::size_t r = 0; r < ring_count; ++r) {
      auto& ring = rings[r];
      const auto after = position(id, r) - ring.own;
      if (after <= ring.after) ring.after = after, ring.successor = &id;
      const auto before = ring.own - position(id, r);
      if (before <= ring.before) ring.before = before, ring.predecessor = &id;
    }
  }
  for (const auto& ring : rings) {
    result.push_back(*ring.successor);
    result.push_back(*ring.predecessor);
  }
  std::sort(result.begin(), result.end());
  result.erase(std::unique(result.begin(), result.end()), result.end());
  return result;
}

}  // namespace bitnet::actors::cluster
