#include "actors/cluster/metrics.hpp"

#include <prometheus/metric_family.h>

#include <string>
#include <utility>
#include <vector>

namespace bitnet::actors::cluster {

namespace {

constexpr auto relaxed = std::memory_order_relaxed;

prometheus::MetricFamily family(std::string name, std::string help, prometheus::MetricType type) {
  prometheus::MetricFamily f;
  f.name = std::move(name);
  f.help = std::move(help);
  f.type = type;
  return f;
}

prometheus::MetricFamily gauge(std::string name, std::string help, double value) {
  auto f = family(std::move(name), std::move(help), prometheus::MetricType::Gauge);
  f.metric.emplace_back();
  f.metric.back().gauge.value = value;
  return f;
}

prometheus::MetricFamily counter(std::string name, std::string help, double value) {
  auto f = family(std::move(name), std::move(help), prometheus::MetricType::Counter);
  f.metric.emplace_back();
  f.metric.back().counter.value = value;
  return f;
}

class collectable : public prometheus::Collectable {
 public:
  explicit collectable(std::shared_ptr<const cluster_counters> counters) : counters_(std::move(counters)) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    const auto& c = *counters_;
    const auto value = [](const std::atomic<std::uint64_t>& x) {
      return static_cast<double>(x.load(relaxed));
    };
    auto members = family("bitnet_cluster_members", "Members of the cluster by state, as this node sees them",
                          prometheus::MetricType::Gauge);
    for (std::size_t i = 0; i < c.members.size(); ++i) {
      members.metric.emplace_back();
      members.metric.back().label.push_back({"state", std::string(to_string(static_cast<member_state>(i)))});
      members.metric.back().gauge.value = value(c.members[i]);
    }
    std::vector<prometheus::MetricFamily> all;
    all.push_back(std::move(members));
    all.push_back(gauge("bitnet_cluster_links", "Open links with other nodes", value(c.links)));
    all.push_back(gauge("bitnet_cluster_served_streams", "Sequences of other nodes on this one's workers",
                        value(c.served)));
    all.push_back(gauge("bitnet_cluster_forwarded_streams", "Sequences of this node on others' workers",
                        value(c.forwarded)));
    all.push_back(counter("bitnet_cluster_refused_peers_total", "Nodes refused for their protocol or model",
                          value(c.refused_peers)));
    all.push_back(counter("bitnet_cluster_stalled_streams_total",
                          "Attempts on other nodes given up because nothing came any more",
                          value(c.stalled)));
    all.push_back(
        counter("bitnet_cluster_lost_streams_total",
                "Attempts on other nodes that ended with the node or its link; they went on elsewhere",
                value(c.lost)));
    all.push_back(counter("bitnet_cluster_timer_lag_seconds_total",
                          "Time by which this node's own timers came late", value(c.lag_ms) / 1000));
    return all;
  }

 private:
  std::shared_ptr<const cluster_counters> counters_;
};

}  // namespace

std::shared_ptr<prometheus::Collectable> cluster_metrics(std::shared_ptr<const cluster_counters> counters) {
  return std::make_shared<collectable>(std::move(counters));
}

}  // namespace bitnet::actors::cluster
