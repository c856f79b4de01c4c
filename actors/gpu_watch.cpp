#include "actors/gpu_watch.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace bitnet::actors {

namespace {

/// "GPU has fallen off the bus" (NVIDIA, XID errors).
constexpr std::uint64_t xid_off_the_bus = 79;

component_report report_of(health_status status, std::string message) {
  component_report r;
  r.component = "gpu";
  r.status = status;
  r.message = std::move(message);
  if (status != health_status::healthy)
    r.code = status == health_status::degraded ? "gpu_degraded" : "gpu_unhealthy";
  return r;
}
component_report healthy(std::string message) {
  return report_of(health_status::healthy, std::move(message));
}
component_report degraded(std::string message) {
  return report_of(health_status::degraded, std::move(message));
}
component_report unhealthy(std::string message) {
  return report_of(health_status::unhealthy, std::move(message));
}

/// Without the domain's leading zeros, in lower case.
std::string normalised(std::string_view id) {
  std::string out(id.substr(std::min(id.find_first_not_of('0'), id.size())));
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

}  // namespace

bool same_pci_device(std::string_view a, std::string_view b) {
  return normalised(a) == normalised(b);
}

std::string slowdowns(std::uint64_t throttle_reasons) {
  struct reason {
    std::uint64_t bit;
    const char* name;
  };
  // A power cap that software set (0x4) is how power is managed, not a fault.
  constexpr std::array<reason, 4> faults{{{0x08, "hardware slowdown"},
                                          {0x20, "software thermal slowdown"},
                                          {0x40, "hardware thermal slowdown"},
                                          {0x80, "power brake"}}};
  std::string names;
  for (const auto& fault : faults)
    if ((throttle_reasons & fault.bit) != 0) names += (names.empty() ? "" : ", ") + std::string(fault.name);
  return names;
}

component_report gpu_watch::judge(const gpu_observation& seen, const std::optional<std::string>& lost,
                                  steady_time now) {
  if (lost) {
    auto r = unhealthy(*lost);
    r.cannot_heal = true;
    return r;
  }
  if (!use_.wanted) return healthy("not used: engine.device=cpu");
  if (use_.pci_bus_id.empty()) return degraded(use_.why_not + "; the engine runs on the CPU");
  if (seen.waiting && *seen.waiting > options_.deadline)
    return unhealthy(fmt::format("{} has not answered for {:.1f} s", seen.waiting_for,
                                 std::chrono::duration<double>(*seen.waiting).count()));
  if (seen.canary_failure) return unhealthy("the canary kernel failed: " + *seen.canary_failure);
  if (!seen.read) return degraded("not watched yet: waiting for NVML");
  if (seen.readings.devices.empty())
    return degraded("in use, but it cannot be watched: " + seen.readings.problem);
  for (const auto& device : seen.readings.devices)
    if (device.lost || same_pci_device(device.pci_bus_id, use_.pci_bus_id)) return judge_device(device, now);
  return unhealthy(fmt::format("the device {} is not there any more", use_.pci_bus_id));
}

component_report gpu_watch::judge_device(const gpu_reading& device, steady_time now) {
  if (device.lost) return unhealthy("the GPU is lost: " + device.problem);
  if (!device.problem.empty()) return unhealthy("NVML cannot read the GPU: " + device.problem);
  if (device.xid_events != xid_events_) {
    xid_events_ = device.xid_events;
    last_xid_at_ = now;
  }
  if (last_xid_at_ && device.last_xid == xid_off_the_bus)
    return unhealthy(fmt::format("Xid {}: the GPU has fallen off the bus", device.last_xid));
  if (!first_ecc_errors_) first_ecc_errors_ = device.uncorrected_ecc_errors;
  const auto slow = slowdowns(device.throttle_reasons);
  if (slow.empty())
    throttled_since_.reset();
  else if (!throttled_since_)
    throttled_since_ = now;
  const auto full_in =
      growth_.update(now, device.memory_used_bytes, device.memory_total_bytes - device.memory_used_bytes);

  const auto figures = fmt::format("{}: {} of {} MiB in use, {} % busy, {} degrees", device.name,
                                   device.memory_used_bytes >> 20, device.memory_total_bytes >> 20,
                                   device.utilisation_percent, device.temperature_celsius);
  if (device.uncorrected_ecc_errors > *first_ecc_errors_)
    return degraded(fmt::format("{} uncorrected memory errors since the start; {}",
                                device.uncorrected_ecc_errors - *first_ecc_errors_, figures));
  if (last_xid_at_ && now - *last_xid_at_ < options_.xid_memory)
    return degraded(fmt::format("critical event Xid {}; {}", device.last_xid, figures));
  if (throttled_since_ && now - *throttled_since_ >= options_.throttle_patience)
    return degraded(fmt::format(
        "slowed down ({}) for {} s; {}", slow,
        std::chrono::duration_cast<std::chrono::seconds>(now - *throttled_since_).count(), figures));
  if (full_in)
    return degraded(
        fmt::format("its memory grows steadily and is full in {} s; {}", full_in->count(), figures));
  return healthy(figures);
}

}  // namespace bitnet::actors
