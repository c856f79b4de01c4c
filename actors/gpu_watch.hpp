#pragma once

#include "actors/health.hpp"
#include "actors/memory_growth.hpp"
#include "actors/probes/gpu_monitor.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::actors {

/// How the engine uses GPUs, as it was decided at the start.
struct gpu_use {
  struct device {
    std::string name;  ///< "cuda:0"
    std::string pci_bus_id;
  };
  bool wanted = true;           ///< false: engine.device=cpu
  std::vector<device> devices;  ///< an engine on each; empty: none, the engine runs on the CPU
  std::string why_not;          ///< why none, where one was wanted
};

struct gpu_watch_options {
  std::chrono::milliseconds deadline{5000};    ///< for NVML to answer, and for the canary kernel
  std::chrono::seconds throttle_patience{30};  ///< clocks slow down for a moment all the time
  std::chrono::seconds xid_memory{600};        ///< so long a critical event counts
  memory_growth_options growth;
};

/// Judges what the monitor sees. One thread.
///
/// Unhealthy: the device is lost or gone, does not answer in time, or computes wrongly. Degraded: it is
/// slowed down for heat or power, has had uncorrected memory errors or critical events, its memory grows like
/// a leak, it cannot be watched, or the engine had to fall back to the CPU. Of several devices, those that
/// fail degrade the component as long as one does not; the message names them.
class gpu_watch {
 public:
  gpu_watch(gpu_use use, gpu_watch_options options);

  /// `lost`: of each device in use (none at all: of no device) the error that its engine met and this process
  /// cannot recover from; empty: none.
  component_report judge(const gpu_observation& seen, const std::vector<std::string>& lost, steady_time now);

 private:
  /// What is known of a device in use.
  struct device_state {
    memory_growth growth;
    std::optional<std::uint64_t> first_ecc_errors;
    std::optional<steady_time> throttled_since;
    std::uint64_t xid_events = 0;
    std::optional<steady_time> last_xid_at;
  };

  component_report judge_one(std::size_t index, const gpu_observation& seen,
                             const std::vector<std::string>& lost, steady_time now);
  component_report judge_reading(device_state& state, const gpu_reading& device, steady_time now) const;
  component_report combine(const std::vector<component_report>& reports) const;

  gpu_use use_;
  gpu_watch_options options_;
  std::vector<device_state> states_;  ///< as use_.devices
};

/// NVML's name for the slowdowns among the reasons that are faults (heat, power brake); empty where none is.
std::string slowdowns(std::uint64_t throttle_reasons);

/// The same device in NVML's and CUDA's spelling of a PCI bus id: they differ in case and in leading zeros.
bool same_pci_device(std::string_view a, std::string_view b);

}  // namespace bitnet::actors
