#include "tests/support/fake_nvml/fake_nvml.hpp"

#include <cstdio>
#include <cstring>
#include <thread>

using bitnet::tests::fake_nvml_state;

namespace {

fake_nvml_state state;
constexpr int not_supported = 3;
constexpr int timed_out = 10;

fake_nvml_state::device& of(void* handle) {
  return *static_cast<fake_nvml_state::device*>(handle);
}

}  // namespace

extern "C" {

struct memory {
  unsigned long long total, free, used;
};
struct utilisation {
  unsigned gpu, memory;
};
struct event {
  void* device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};
struct pci {
  char legacy[16];
  unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
  char bus_id[32];
};

fake_nvml_state* fake_nvml() {
  return &state;
}
int nvmlInit_v2() {
  ++state.inits;
  return state.init_error;
}
int nvmlShutdown() {
  ++state.shutdowns;
  return 0;
}
const char* nvmlErrorString(int error) {
  return error == 15 ? "GPU is lost" : error == 9 ? "Driver Not Loaded" : "Unknown Error";
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  while (state.hangs.load()) std::this_thread::yield();
  *count = state.count;
  return state.count_error;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = &state.devices[index];
  return 0;
}
int nvmlDeviceGetName(void* device, char* name, unsigned length) {
  std::snprintf(name, length, "%s", of(device).name);
  return of(device).error;
}
int nvmlDeviceGetMemoryInfo(void* device, memory* m) {
  const auto& d = of(device);
  *m = {d.total, d.total - d.used, d.used};
  return d.error;
}
int nvmlDeviceGetPciInfo_v3(void* device, pci* p) {
  std::snprintf(p->bus_id, sizeof(p->bus_id), "%s", of(device).bus_id);
  return 0;
}
int nvmlDeviceGetUtilizationRates(void* device, utilisation* u) {
  *u = {of(device).busy, 0};
  return of(device).figures_error;
}
int nvmlDeviceGetTemperature(void* device, unsigned sensor, unsigned* celsius) {
  *celsius = of(device).celsius;
  return sensor == 0 ? of(device).figures_error : not_supported;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void* device, unsigned long long* reasons) {
  *reasons = of(device).throttle_reasons;
  return of(device).figures_error;
}
int nvmlDeviceGetTotalEccErrors(void* device, unsigned type, unsigned counter, unsigned long long* errors) {
  *errors = of(device).ecc_errors;
  return type == 1 && counter == 0 ? of(device).figures_error : not_supported;
}
int nvmlEventSetCreate(void** set) {
  *set = &state;
  return 0;
}
int nvmlEventSetFree(void*) {
  return 0;
}
int nvmlDeviceRegisterEvents(void*, unsigned long long types, void*) {
  return types == 8 ? 0 : not_supported;
}
int nvmlEventSetWait_v2(void*, event* e, unsigned timeout_ms) {
  if (timeout_ms != 0) return not_supported;
  for (auto& d : state.devices) {
    if (d.pending_xids == 0) continue;
    --d.pending_xids;
    *e = {&d, 8, d.xid, 0, 0};
    return 0;
  }
  return timed_out;
}
}
