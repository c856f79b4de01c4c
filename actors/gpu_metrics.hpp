#pragma once

#include "actors/gpu_watch.hpp"
#include "actors/probes/gpu_monitor.hpp"

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace bitnet::actors {

/// Every GPU that NVML shows, for /metrics; those that engines compute on with the engine's name for them.
/// Nothing while NVML has no answer.
class gpu_metrics final : public prometheus::Collectable {
 public:
  gpu_metrics(std::shared_ptr<const gpu_monitor> monitor, std::vector<gpu_use::device> used)
      : monitor_(std::move(monitor)), used_(std::move(used)) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  std::shared_ptr<const gpu_monitor> monitor_;
  std::vector<gpu_use::device> used_;
};

/// MiB in use on these devices (on all, where there are none).
double gpu_memory_mb(const gpu_readings& readings, std::span<const gpu_use::device> used);

}  // namespace bitnet::actors
