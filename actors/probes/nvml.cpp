#include "actors/probes/nvml.hpp"

#include <fmt/format.h>

#include <dlfcn.h>

#include <array>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace bitnet::actors {

namespace {

// What we use of NVML's interface (NVML API Reference Guide), whose symbols keep their meaning.
using nvml_device = void*;
using nvml_event_set = void*;
using nvml_return = int;
constexpr nvml_return nvml_success = 0;
constexpr nvml_return nvml_gpu_is_lost = 15;
constexpr unsigned temperature_of_gpu = 0;
constexpr unsigned uncorrected_errors = 1;
constexpr unsigned volatile_counter = 0;
constexpr unsigned long long critical_xid_event = 8;

struct nvml_memory {
  unsigned long long total, free, used;
};
struct nvml_utilisation {
  unsigned gpu, memory;
};
struct nvml_event {
  nvml_device device;
  unsigned long long type;
  unsigned long long data;
  unsigned gpu_instance;
  unsigned compute_instance;
};
struct nvml_pci {
  char bus_id_legacy[16];
  unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
  char bus_id[32];
};

}  // namespace

struct nvml::library {
  explicit library(std::string file) : path(std::move(file)) {}
  ~library() {
    if (handle == nullptr) return;
    if (events != nullptr && event_set_free != nullptr) event_set_free(events);
    if (shutdown != nullptr) shutdown();
    dlclose(handle);
  }
  library(const library&) = delete;
  library& operator=(const library&) = delete;

  /// What stops us from reading, or nothing.
  std::optional<std::string> open();
  gpu_reading read(unsigned index);
  void take_events();

  std::string path;
  void* handle = nullptr;
  bool initialised = false;
  nvml_event_set events = nullptr;
  struct watched_device {
    nvml_device device;
    std::uint64_t events;
    std::uint64_t last;
  };
  std::vector<watched_device> xids;
  std::map<unsigned, std::string> bus_ids;  ///< by index: a device that is lost does not tell any more

  nvml_return (*init)() = nullptr;
  nvml_return (*shutdown)() = nullptr;
  const char* (*error_string)(nvml_return) = nullptr;
  nvml_return (*device_count)(unsigned*) = nullptr;
  nvml_return (*device_at)(unsigned, nvml_device*) = nullptr;
  nvml_return (*device_name)(nvml_device, char*, unsigned) = nullptr;
  nvml_return (*memory_info)(nvml_device, nvml_memory*) = nullptr;
  // Not there in all versions, or not supported by all devices.
  nvml_return (*pci_info)(nvml_device, nvml_pci*) = nullptr;
  nvml_return (*utilisation)(nvml_device, nvml_utilisation*) = nullptr;
  nvml_return (*temperature)(nvml_device, unsigned, unsigned*) = nullptr;
  nvml_return (*throttle_reasons)(nvml_device, unsigned long long*) = nullptr;
  nvml_return (*ecc_errors)(nvml_device, unsigned, unsigned, unsigned long long*) = nullptr;
  nvml_return (*event_set_create)(nvml_event_set*) = nullptr;
  nvml_return (*event_set_free)(nvml_event_set) = nullptr;
  nvml_return (*register_events)(nvml_device, unsigned long long, nvml_event_set) = nullptr;
  nvml_return (*event_wait)(nvml_event_set, nvml_event*, unsigned) = nullptr;

 private:
  template <class F>
  bool find(F*& function, const char* symbol) {
    function = reinterpret_cast<F*>(dlsym(handle, symbol));
    return function != nullptr;
  }
  bool find_functions();
  void watch_events();
};

bool nvml::library::find_functions() {
  find(shutdown, "nvmlShutdown");
  find(pci_info, "nvmlDeviceGetPciInfo_v3");
  find(utilisation, "nvmlDeviceGetUtilizationRates");
  find(temperature, "nvmlDeviceGetTemperature");
  find(throttle_reasons, "nvmlDeviceGetCurrentClocksThrottleReasons");
  find(ecc_errors, "nvmlDeviceGetTotalEccErrors");
  find(event_set_create, "nvmlEventSetCreate");
  find(event_set_free, "nvmlEventSetFree");
  find(register_events, "nvmlDeviceRegisterEvents");
  find(event_wait, "nvmlEventSetWait_v2");
  return find(init, "nvmlInit_v2") && find(error_string, "nvmlErrorString") &&
         find(device_count, "nvmlDeviceGetCount_v2") && find(device_at, "nvmlDeviceGetHandleByIndex_v2") &&
         find(device_name, "nvmlDeviceGetName") && find(memory_info, "nvmlDeviceGetMemoryInfo");
}

std::optional<std::string> nvml::library::open() {
  if (handle == nullptr) {
    handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return fmt::format("NVML is not there ({})", path);
    if (!find_functions()) {
      dlclose(std::exchange(handle, nullptr));
      return fmt::format("{} is not the NVML that we know", path);
    }
  }
  if (initialised) return std::nullopt;
  if (const auto status = init(); status != nvml_success)
    return fmt::format("NVML does not start: {}", error_string(status));
  initialised = true;
  watch_events();
  return std::nullopt;
}

/// Critical Xid events of all devices that report them.
void nvml::library::watch_events() {
  if (event_set_create == nullptr || register_events == nullptr || event_wait == nullptr) return;
  if (event_set_create(&events) != nvml_success) {
    events = nullptr;
    return;
  }
  unsigned count = 0;
  if (device_count(&count) != nvml_success) return;
  for (unsigned i = 0; i < count; ++i) {
    nvml_device device = nullptr;
    if (device_at(i, &device) == nvml_success &&
        register_events(device, critical_xid_event, events) == nvml_success)
      xids.push_back({device, 0, 0});
  }
}

void nvml::library::take_events() {
  if (events == nullptr || xids.empty()) return;
  constexpr int most_at_once = 64;  // a storm of events must not hold the reading up
  nvml_event event{};
  for (int i = 0; i < most_at_once && event_wait(events, &event, 0) == nvml_success; ++i) {
    for (auto& watched : xids) {
      if (watched.device != event.device || event.type != critical_xid_event) continue;
      ++watched.events;
      watched.last = event.data;
    }
  }
}

gpu_reading nvml::library::read(unsigned index) {
  gpu_reading reading;
  reading.index = index;
  const auto failed = [&](nvml_return status) {
    if (status == nvml_success) return false;
    reading.problem = error_string(status);
    reading.lost = status == nvml_gpu_is_lost;
    return true;
  };
  if (const auto known = bus_ids.find(index); known != bus_ids.end()) reading.pci_bus_id = known->second;
  nvml_device device = nullptr;
  if (failed(device_at(index, &device))) return reading;
  std::array<char, 96> name{};
  if (failed(device_name(device, name.data(), static_cast<unsigned>(name.size() - 1)))) return reading;
  reading.name = name.data();
  nvml_memory memory{};
  if (failed(memory_info(device, &memory))) return reading;
  reading.memory_used_bytes = memory.used;
  reading.memory_total_bytes = memory.total;
  if (nvml_pci pci{}; pci_info != nullptr && pci_info(device, &pci) == nvml_success)
    bus_ids[index] = reading.pci_bus_id = pci.bus_id;
  if (nvml_utilisation use{}; utilisation != nullptr && utilisation(device, &use) == nvml_success)
    reading.utilisation_percent = use.gpu;
  unsigned celsius = 0;
  if (temperature != nullptr && temperature(device, temperature_of_gpu, &celsius) == nvml_success)
    reading.temperature_celsius = celsius;
  unsigned long long value = 0;
  if (throttle_reasons != nullptr && throttle_reasons(device, &value) == nvml_success)
    reading.throttle_reasons = value;
  if (ecc_errors != nullptr &&
      ecc_errors(device, uncorrected_errors, volatile_counter, &value) == nvml_success)
    reading.uncorrected_ecc_errors = value;
  for (const auto& watched : xids) {
    if (watched.device != device) continue;
    reading.xid_events = watched.events;
    reading.last_xid = watched.last;
  }
  return reading;
}

nvml::nvml(std::string library_file) : library_(std::make_unique<library>(std::move(library_file))) {}
nvml::~nvml() = default;

gpu_readings nvml::read() {
  gpu_readings readings;
  if (auto problem = library_->open()) {
    readings.problem = std::move(*problem);
    return readings;
  }
  unsigned count = 0;
  if (const auto status = library_->device_count(&count); status != nvml_success) {
    readings.problem = fmt::format("NVML cannot count devices: {}", library_->error_string(status));
    return readings;
  }
  library_->take_events();
  for (unsigned i = 0; i < count; ++i) readings.devices.push_back(library_->read(i));
  if (readings.devices.empty()) readings.problem = "NVML shows no device";
  return readings;
}

}  // namespace bitnet::actors
