#include "actors/cluster/failure_detector.hpp"

#include <algorithm>

namespace bitnet::actors::cluster {

void failure_detector::watch(const std::vector<node_id>& neighbours, steady_time now) {
  std::erase_if(watched_, [&](const auto& entry) {
    return !std::binary_search(neighbours.begin(), neighbours.end(), entry.first);
  });
  for (const auto& id : neighbours) watched_.try_emplace(id, watched{now, now});
}

void failure_detector::heard(const node_id& from, steady_time now) {
  const auto found = watched_.find(from);
  if (found == watched_.end()) return;
  found->second.heard = std::max(found->second.heard, now);
  found->second.asked = false;
}

void failure_detector::vouched(const node_id& target, steady_time now) {
  heard(target, now);
}

void failure_detector::acknowledged(const node_id& from, std::uint64_t seq, steady_time now) {
  const auto found = watched_.find(from);
  if (found == watched_.end()) return;
  auto& w = found->second;
  heard(from, now);
  if (seq != w.seq || w.acknowledged >= w.pinged) return;
  const auto sample = std::chrono::duration_cast<std::chrono::nanoseconds>(now - w.pinged);
  w.round_trip = w.round_trip.count() == 0 ? sample : (w.round_trip * 7 + sample) / 8;
  w.acknowledged = now;
  w.disconnected = false;
  if (!w.suspect) return;
  w.suspect = false;
  recovered_.push_back(from);
}

void failure_detector::disconnected(const node_id& from, steady_time now) {
  const auto found = watched_.find(from);
  if (found == watched_.end()) return;
  found->second.disconnected = true;
  found->second.pinged = std::min(found->second.pinged, now - options_.ping_every);  // at the next tick
}

void failure_detector::take_off_lag(steady_time now) {
  if (last_tick_ != steady_time{} && now - last_tick_ > 2 * options_.tick) {
    const auto late = now - last_tick_ - options_.tick;
    lag_ += late;
    for (auto& [id, w] : watched_) {
      w.acknowledged = std::min(w.acknowledged + late, now);
      w.heard = std::min(w.heard + late, now);
      w.probed = std::min(w.probed + late, now);
    }
  }
  last_tick_ = now;
}

void failure_detector::ask_others(const node_id& about, watched& w, steady_time now, decisions& out) {
  w.probed = now;
  w.asked = true;
  std::vector<node_id> able;
  for (const auto& [id, other] : watched_)
    if (id != about && !other.suspect && now - other.acknowledged < options_.indirect_after)
      able.push_back(id);
  for (unsigned i = 0; i < options_.indirect_probes && i < able.size(); ++i) {
    std::uniform_int_distribution<std::size_t> any(i, able.size() - 1);
    std::swap(able[i], able[any(random_)]);
    out.probe_requests.emplace_back(able[i], about);
  }
}

failure_detector::decisions failure_detector::tick(steady_time now) {
  take_off_lag(now);
  decisions out;
  out.recovered = std::exchange(recovered_, {});
  for (auto& [id, w] : watched_) {
    if (now - w.pinged >= options_.ping_every) {
      // One answer is awaited at a time, for the round trip; where it does not come the next ping replaces
      // it.
      w.pinged = now;
      out.pings.emplace_back(id, ++w.seq);
    }
    const auto silent = now - w.acknowledged;
    if (!w.suspect && (silent >= options_.suspect_after || w.disconnected)) {
      w.suspect = true;
      out.suspects.push_back(id);
    }
    if (silent >= options_.indirect_after && now - w.probed >= options_.indirect_every)
      ask_others(id, w, now, out);
    // Whoever is about to be declared dead has had a chance to be vouched for.
    if (now - w.heard >= options_.dead_after && w.asked && now - w.probed >= options_.indirect_every / 2)
      out.dead.push_back(id);
  }
  for (const auto& id : out.dead) watched_.erase(id);
  return out;
}

bool failure_detector::suspect(const node_id& id) const {
  const auto found = watched_.find(id);
  return found != watched_.end() && found->second.suspect;
}

bool failure_detector::fresh(const node_id& id, steady_time now) const {
  const auto found = watched_.find(id);
  return found != watched_.end() && now - found->second.heard < options_.suspect_after;
}

std::chrono::nanoseconds failure_detector::round_trip(const node_id& id) const {
  const auto found = watched_.find(id);
  return found == watched_.end() ? std::chrono::nanoseconds{0} : found->second.round_trip;
}

}  // namespace bitnet::actors::cluster
