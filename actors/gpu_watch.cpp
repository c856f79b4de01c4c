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

gpu_watch::gpu_watch(gpu_use use, gpu_watch_options options)
    : use_(std::move(use)),
      options_(options),
      states_(use_.devices.size(), device_state{memory_growth(options.growth), {}, {}, 0, {}}) {}

component_report gpu_watch::judge(const gpu_observation& seen, const std::vector<std::string>& lost,
                                  steady_time now) {
  if (!use_.wanted) return healthy("not used: engine.device=cpu");
  if (use_.devices.empty()) return degraded(use_.why_not + "; the engine runs on the CPU");
  std::vector<component_report> reports;
  for (std::size_t i = 0; i < use_.devices.size(); ++i) reports.push_back(judge_one(i, seen, lost, now));
  return combine(reports);
}

component_report gpu_watch::combine(const std::vector<component_report>& reports) const {
  const auto& first = reports.front();
  const bool alike = std::all_of(reports.begin(), reports.end(), [&](const auto& r) {
    return r.status == first.status && r.message == first.message;
  });
  if (reports.size() == 1) return first;
  if (alike && first.status != health_status::healthy) {
    auto all = first;
    all.message = fmt::format("all {} GPUs: {}", reports.size(), first.message);
    return all;
  }
  const auto count = [&](health_status status) {
    return static_cast<std::size_t>(
        std::count_if(reports.begin(), reports.end(), [&](const auto& r) { return r.status == status; }));
  };
  const auto sound = count(health_status::healthy);
  std::string list;
  for (std::size_t i = 0; i < reports.size(); ++i) {
    if (sound != reports.size() && reports[i].status == health_status::healthy) continue;
    list += fmt::format("{}{}: {}", list.empty() ? "" : "; ", use_.devices[i].name, reports[i].message);
  }
  if (sound == reports.size()) return healthy(std::move(list));
  list = fmt::format("{} of {} GPUs: {}", reports.size() - sound, reports.size(), list);
  if (count(health_status::unhealthy) < reports.size()) return degraded(std::move(list));
  auto all = unhealthy(std::move(list));
  all.cannot_heal = std::all_of(reports.begin(), reports.end(), [](const auto& r) { return r.cannot_heal; });
  return all;
}

component_report gpu_watch::judge_one(std::size_t index, const gpu_observation& seen,
                                      const std::vector<std::string>& lost, steady_time now) {
  const auto& id = use_.devices[index].pci_bus_id;
  if (index < lost.size() && !lost[index].empty()) {
    auto r = unhealthy(lost[index]);
    r.cannot_heal = true;
    return r;
  }
  if (seen.waiting && *seen.waiting > options_.deadline)
    return unhealthy(fmt::format("{} has not answered for {:.1f} s", seen.waiting_for,
                                 std::chrono::duration<double>(*seen.waiting).count()));
  if (index < seen.canary_failures.size() && !seen.canary_failures[index].empty())
    return unhealthy("the canary kernel failed: " + seen.canary_failures[index]);
  if (!seen.read) return degraded("not watched yet: waiting for NVML");
  if (seen.readings.devices.empty())
    return degraded("in use, but it cannot be watched: " + seen.readings.problem);
  const auto& found = seen.readings.devices;
  auto reading = std::find_if(found.begin(), found.end(),
                              [&](const auto& d) { return same_pci_device(d.pci_bus_id, id); });
  // One that was lost from the start never told its bus id.
  if (reading == found.end())
    reading = std::find_if(found.begin(), found.end(),
                           [](const auto& d) { return d.lost && d.pci_bus_id.empty(); });
  if (reading == found.end()) return unhealthy(fmt::format("the device {} is not there any more", id));
  return judge_reading(states_[index], *reading, now);
}

component_report gpu_watch::judge_reading(device_state& state, const gpu_reading& device,
                                          steady_time now) const {
  if (device.lost) return unhealthy("the GPU is lost: " + device.problem);
  if (!device.problem.empty()) return unhealthy("NVML cannot read the GPU: " + device.problem);
  if (device.xid_events != state.xid_events) {
    state.xid_events = device.xid_events;
    state.last_xid_at = now;
  }
  if (state.last_xid_at && device.last_xid == xid_off_the_bus)
    return unhealthy(fmt::format("Xid {}: the GPU has fallen off the bus", device.last_xid));
  if (!state.first_ecc_errors) state.first_ecc_errors = device.uncorrected_ecc_errors;
  const auto slow = slowdowns(device.throttle_reasons);
  if (slow.empty())
    state.throttled_since.reset();
  else if (!state.throttled_since)
    state.throttled_since = now;
  const auto full_in = state.growth.update(now, device.memory_used_bytes,
                                           device.memory_total_bytes - device.memory_used_bytes);

  const auto figures = fmt::format("{}: {} of {} MiB in use, {} % busy, {} degrees", device.name,
                                   device.memory_used_bytes >> 20, device.memory_total_bytes >> 20,
                                   device.utilisation_percent, device.temperature_celsius);
  if (device.uncorrected_ecc_errors > *state.first_ecc_errors)
    return degraded(fmt::format("{} uncorrected memory errors since the start; {}",
                                device.uncorrected_ecc_errors - *state.first_ecc_errors, figures));
  if (state.last_xid_at && now - *state.last_xid_at < options_.xid_memory)
    return degraded(fmt::format("critical event Xid {}; {}", device.last_xid, figures));
  if (state.throttled_since && now - *state.throttled_since >= options_.throttle_patience)
    return degraded(fmt::format(
        "slowed down ({}) for {} s; {}", slow,
        std::chrono::duration_cast<std::chrono::seconds>(now - *state.throttled_since).count(), figures));
  if (full_in)
    return degraded(
        fmt::format("its memory grows steadily and is full in {} s; {}", full_in->count(), figures));
  return healthy(figures);
}

}  // namespace bitnet::actors
