#include "actors/cluster/cluster_actor.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <chrono>

namespace bitnet::actors::cluster {

namespace {

boost::json::object describe_load(const worker_load& w) {
  return {{"worker", w.worker},
          {"incarnation", w.incarnation},
          {"capacity", w.capacity},
          {"running", w.running},
          {"queued", w.queued},
          {"streams", w.streams},
          {"kv_blocks_used", w.kv_blocks_used},
          {"kv_blocks_total", w.kv_blocks_total}};
}

}  // namespace

std::string cluster_state::describe() {
  using milliseconds = std::chrono::duration<double, std::milli>;
  const auto& map = node->members();
  const auto& own = *map.own().node;
  boost::json::array members;
  for (const auto& [id, m] : map.members()) {
    const auto& d = *m.record.node;
    const bool self_entry = id == map.self();
    boost::json::array loads;
    boost::json::object entry{{"id", to_string(id)},
                              {"address", d.address},
                              {"self", self_entry},
                              {"state", std::string(to_string(node->state_of(id)))},
                              {"incarnation", m.record.incarnation},
                              {"version", d.build},
                              {"version_differs", d.build != own.build},
                              {"model", d.model},
                              {"protocol_min", d.protocol_min},
                              {"protocol_max", d.protocol_max},
                              {"linked", self_entry || link_of.contains(id)}};
    if (self_entry) {
      for (const auto& w : own_load()) loads.push_back(describe_load(w));
    } else if (const auto* load = node->load_of(id)) {
      for (const auto& w : load->workers) loads.push_back(describe_load(w));
      entry["load_age_ms"] = milliseconds(now() - load->at).count();
    }
    if (!self_entry)
      if (const auto rtt = node->detector().round_trip(id); rtt.count() > 0)
        entry["round_trip_ms"] = milliseconds(rtt).count();
    entry["routed"] =
        self_entry ? !workers.empty() : std::any_of(remotes.begin(), remotes.end(), [&](const auto& r) {
          return r.second.node == id && r.second.announced;
        });
    entry["workers"] = std::move(loads);
    members.push_back(std::move(entry));
  }
  boost::json::object result{{"schema", 1},
                             {"self", to_string(map.self())},
                             {"members", std::move(members)},
                             {"streams", {{"forwarded", forwards.size()}, {"served", serves.size()}}},
                             {"timer_lag_ms", milliseconds(node->detector().lag()).count()}};
  return boost::json::serialize(result);
}

}  // namespace bitnet::actors::cluster
