#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace bitnet::actors {

/// One GPU as NVML sees it. Figures that the device does not support stay 0.
struct gpu_reading {
  std::uint32_t index = 0;  ///< NVML's, which follows the PCI bus
  std::string name;
  std::string pci_bus_id;
  std::uint64_t memory_used_bytes = 0;  ///< by all processes
  std::uint64_t memory_total_bytes = 0;
  std::uint32_t utilisation_percent = 0;
  std::uint32_t temperature_celsius = 0;
  std::uint64_t throttle_reasons = 0;        ///< NVML's bits
  std::uint64_t uncorrected_ecc_errors = 0;  ///< since the driver was loaded
  std::uint64_t xid_events = 0;              ///< critical ones since we watch
  std::uint64_t last_xid = 0;
  std::string problem;  ///< the device does not answer: why; figures above are then void
  bool lost = false;    ///< with `problem`: the device has fallen off the bus
};

struct gpu_readings {
  std::vector<gpu_reading> devices;
  std::string problem;  ///< nothing could be read: why, one clause
};

/// The NVIDIA Management Library, loaded at run time: no link dependency, and none on its header. Any call
/// may block for ever in a sick driver, so only a thread that nobody waits for may use it.
class nvml {
 public:
  /// Never fails: what is wrong comes with the readings, and each reading tries again.
  explicit nvml(std::string library = "libnvidia-ml.so.1");
  ~nvml();
  nvml(const nvml&) = delete;
  nvml& operator=(const nvml&) = delete;

  gpu_readings read();

 private:
  struct library;
  std::unique_ptr<library> library_;
};

}  // namespace bitnet::actors
