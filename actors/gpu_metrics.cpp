#include "actors/gpu_metrics.hpp"

#include <algorithm>
#include <string>

namespace bitnet::actors {

namespace {

const gpu_use::device* find(std::span<const gpu_use::device> used, const gpu_reading& reading) {
  const auto found = std::find_if(used.begin(), used.end(), [&](const auto& device) {
    return same_pci_device(device.pci_bus_id, reading.pci_bus_id);
  });
  return found == used.end() ? nullptr : &*found;
}

}  // namespace

std::vector<prometheus::MetricFamily> gpu_metrics::Collect() const {
  using prometheus::MetricType;
  const auto seen = monitor_->observe();
  std::vector<prometheus::MetricFamily> families;
  const auto add = [&](const char* name, const char* help, MetricType type, auto figure) {
    prometheus::MetricFamily family{std::string("bitnet_gpu_") + name, help, type, {}};
    for (const auto& device : seen.readings.devices) {
      if (!device.problem.empty()) continue;
      prometheus::ClientMetric metric;
      metric.label = {{"gpu", std::to_string(device.index)}, {"name", device.name}};
      if (const auto* used = find(used_, device)) metric.label.push_back({"device", used->name});
      const auto value = static_cast<double>(figure(device));
      (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
      family.metric.push_back(std::move(metric));
    }
    if (!family.metric.empty()) families.push_back(std::move(family));
  };
  add("memory_used_bytes", "Device memory in use, by all processes.", MetricType::Gauge,
      [](const auto& d) { return d.memory_used_bytes; });
  add("memory_total_bytes", "Device memory.", MetricType::Gauge,
      [](const auto& d) { return d.memory_total_bytes; });
  add("utilization_ratio", "Part of the time in which a kernel ran, 0 to 1.", MetricType::Gauge,
      [](const auto& d) { return d.utilisation_percent / 100.0; });
  add("temperature_celsius", "Temperature of the GPU.", MetricType::Gauge,
      [](const auto& d) { return d.temperature_celsius; });
  add("slowed_down", "1 while heat or a power brake slows the clocks down.", MetricType::Gauge,
      [](const auto& d) { return slowdowns(d.throttle_reasons).empty() ? 0 : 1; });
  add("ecc_uncorrected_errors_total", "Uncorrected memory errors since the driver was loaded.",
      MetricType::Counter, [](const auto& d) { return d.uncorrected_ecc_errors; });
  add("xid_events_total", "Critical events since the server started.", MetricType::Counter,
      [](const auto& d) { return d.xid_events; });
  return families;
}

double gpu_memory_mb(const gpu_readings& readings, std::span<const gpu_use::device> used) {
  std::uint64_t bytes = 0;
  for (const auto& device : readings.devices)
    if (used.empty() || find(used, device) != nullptr) bytes += device.memory_used_bytes;
  return static_cast<double>(bytes) / (1024 * 1024);
}

}  // namespace bitnet::actors
