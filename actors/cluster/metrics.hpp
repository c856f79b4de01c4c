#pragma once

#include "actors/cluster/cluster_actor.hpp"

#include <prometheus/collectable.h>

#include <memory>

namespace bitnet::actors::cluster {

/// The counters as metric families. Collecting costs a few loads.
std::shared_ptr<prometheus::Collectable> cluster_metrics(std::shared_ptr<const cluster_counters> counters);

}  // namespace bitnet::actors::cluster
