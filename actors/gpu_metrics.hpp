#pragma once

#include "actors/probes/gpu_monitor.hpp"

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace bitnet::actors {

/// Every GPU that NVML shows, for /metrics. Nothing while NVML has no answer.
class gpu_metrics final : public prometheus::Collectable {
 public:
  explicit gpu_metrics(std::shared_ptr<const gpu_monitor> monitor) : monitor_(std::move(monitor)) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  std::shared_ptr<const gpu_monitor> monitor_;
};

/// MiB in use on the device with this PCI bus id (on all, where empty).
double gpu_memory_mb(const gpu_readings& readings, std::string_view pci_bus_id);

}  // namespace bitnet::actors
