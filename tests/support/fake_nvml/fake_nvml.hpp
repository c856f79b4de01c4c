#pragma once

#include <atomic>
#include <string>

namespace bitnet::tests {

/// What the fake NVML (a shared library that tests load as the real one) answers. The library holds one; its
/// symbol `fake_nvml` returns it.
struct fake_nvml_state {
  struct device {
    const char* name = "Fake GPU";
    const char* bus_id = "00000000:01:00.0";
    unsigned long long used = 1ULL << 30, total = 8ULL << 30;
    unsigned busy = 42, celsius = 61;
    unsigned long long throttle_reasons = 0, ecc_errors = 0;
    int error = 0;          ///< of all calls about it
    int figures_error = 0;  ///< of utilisation, temperature, clocks and ECC, as where they are not supported
    int pending_xids = 0;
    unsigned long long xid = 0;
  };
  int init_error = 0;
  int count_error = 0;
  unsigned count = 1;
  device devices[2] = {{}, {"Other GPU", "00000000:02:00.0"}};
  int inits = 0;
  int shutdowns = 0;
  std::atomic<bool> hangs{false};  ///< counting devices does not return while this is set
};

}  // namespace bitnet::tests
