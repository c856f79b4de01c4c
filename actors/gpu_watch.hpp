#pragma once

#include "actors/health.hpp"
#include "actors/memory_growth.hpp"
#include "actors/probes/gpu_monitor.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bitnet::actors {

/// How the engine uses GPUs, as it was decided at the start.
struct gpu_use {
  bool wanted = true;      ///< false: engine.device=cpu
  std::string pci_bus_id;  ///< of the device in use; empty: none, the engine runs on the CPU
  std::string why_not;     ///< why none, where one was wanted
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
/// a leak, it cannot be watched, or the engine had to fall back to the CPU.
class gpu_watch {
 public:
  gpu_watch(gpu_use use, gpu_watch_options options)
      : use_(std::move(use)), options_(options), growth_(options.growth) {}

  /// `lost`: the engine met an error that this process cannot recover from.
  component_report judge(const gpu_observation& seen, const std::optional<std::string>& lost,
                         steady_time now);

 private:
  component_report judge_device(const gpu_reading& device, steady_time now);

  gpu_use use_;
  gpu_watch_options options_;
  memory_growth growth_;
  std::optional<std::uint64_t> first_ecc_errors_;
  std::optional<steady_time> throttled_since_;
  std::uint64_t xid_events_ = 0;
  std::optional<steady_time> last_xid_at_;
};

/// NVML's name for the slowdowns among the reasons that are faults (heat, power brake); empty where none is.
std::string slowdowns(std::uint64_t throttle_reasons);

/// The same device in NVML's and CUDA's spelling of a PCI bus id: they differ in case and in leading zeros.
bool same_pci_device(std::string_view a, std::string_view b);

}  // namespace bitnet::actors
