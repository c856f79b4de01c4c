#pragma once

#include "actors/health.hpp"

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

namespace bitnet::actors {

/// The body of /metrics in Prometheus' text format 0.0.4: everything in the snapshot, then `more`.
std::string render_metrics_text(const health_snapshot& snapshot,
                                std::vector<prometheus::MetricFamily> more = {});

}  // namespace bitnet::actors
