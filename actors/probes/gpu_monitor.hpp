#pragma once

#include "actors/health.hpp"
#include "actors/probes/nvml.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace bitnet::actors {

struct gpu_monitor_options {
  std::function<gpu_readings()> read;  ///< may block for ever
  /// A computation with a known answer on each device in use: what went wrong, empty where nothing did. May
  /// block for ever. Empty: none.
  std::function<std::vector<std::string>()> canary;
  std::chrono::milliseconds period{1000};
  std::chrono::milliseconds canary_period{30'000};
};

/// What the monitor knows at a moment.
struct gpu_observation {
  gpu_readings readings;                            ///< of the last reading that came back
  bool read = false;                                ///< there has been one
  std::optional<std::chrono::nanoseconds> waiting;  ///< for how long one is under way
  const char* waiting_for = "";                     ///< "NVML" or "the canary kernel"
  std::vector<std::string> canary_failures;         ///< of the last canary; a device in use each
  std::uint64_t canary_runs = 0;
  std::chrono::nanoseconds took{};  ///< the last reading
};

/// Reads the GPU's state over and over on a thread of its own, which may hang: nobody waits for it, not even
/// the destructor, and whoever looks sees for how long it has been away.
class gpu_monitor {
 public:
  /// Throws std::system_error where the system gives no thread.
  explicit gpu_monitor(gpu_monitor_options options);
  ~gpu_monitor();
  gpu_monitor(const gpu_monitor&) = delete;
  gpu_monitor& operator=(const gpu_monitor&) = delete;

  /// Any thread; a short lock.
  gpu_observation observe() const;

 private:
  struct shared;
  std::shared_ptr<shared> shared_;
};

}  // namespace bitnet::actors
