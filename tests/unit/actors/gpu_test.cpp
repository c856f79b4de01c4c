// GPUs through a fake NVML, which is loaded as the real one is, and what is made of its figures.

#include "actors/gpu_metrics.hpp"
#include "actors/gpu_watch.hpp"
#include "actors/probes/gpu_monitor.hpp"
#include "actors/probes/nvml.hpp"
#include "tests/support/fake_nvml/fake_nvml.hpp"

#include <boost/test/unit_test.hpp>

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>

namespace {

using namespace bitnet::actors;
using namespace std::chrono_literals;
using bitnet::tests::fake_nvml_state;

/// The fake's state, as new, for the length of a test.
struct fake {
  fake() : handle(dlopen(FAKE_NVML, RTLD_NOW | RTLD_LOCAL)) {
    BOOST_REQUIRE_MESSAGE(handle != nullptr, FAKE_NVML);
    using getter = fake_nvml_state* (*)();
    state = reinterpret_cast<getter>(dlsym(handle, "fake_nvml"))();
    state->~fake_nvml_state();
    new (state) fake_nvml_state;
  }
  ~fake() { dlclose(handle); }
  fake(const fake&) = delete;
  fake& operator=(const fake&) = delete;

  fake_nvml_state::device& device(std::size_t i = 0) { return state->devices[i]; }

  void* handle;
  fake_nvml_state* state = nullptr;
  nvml library{FAKE_NVML};
};

constexpr steady_time start{1000s};

/// A watch over the first fake device, and what it says.
struct watched : fake {
  component_report judge(std::chrono::seconds at = 0s) {
    gpu_observation seen;
    seen.readings = library.read();
    seen.read = true;
    return watch.judge(seen, std::nullopt, start + at);
  }
  gpu_watch watch{{.wanted = true, .pci_bus_id = "0000:01:00.0", .why_not = {}}, {}};
};

bool says(const component_report& report, const char* words) {
  const bool found = report.message.find(words) != std::string::npos;
  if (!found) BOOST_TEST_MESSAGE(report.message);
  return found;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(gpu_nvml)

BOOST_FIXTURE_TEST_CASE(figures_are_read, fake) {
  device().throttle_reasons = 0x44;
  device().ecc_errors = 3;
  const auto readings = library.read();
  BOOST_TEST(readings.problem.empty());
  BOOST_REQUIRE(readings.devices.size() == 1U);
  const auto& d = readings.devices[0];
  BOOST_TEST(d.name == "Fake GPU");
  BOOST_TEST(d.pci_bus_id == "00000000:01:00.0");
  BOOST_TEST(d.memory_used_bytes == 1ULL << 30);
  BOOST_TEST(d.memory_total_bytes == 8ULL << 30);
  BOOST_TEST(d.utilisation_percent == 42U);
  BOOST_TEST(d.temperature_celsius == 61U);
  BOOST_TEST(d.throttle_reasons == 0x44U);
  BOOST_TEST(d.uncorrected_ecc_errors == 3U);
  BOOST_TEST(state->inits == 1);
  library.read();
  BOOST_TEST(state->inits == 1);
}

BOOST_FIXTURE_TEST_CASE(figures_that_a_device_does_not_support_stay_zero, fake) {
  device().figures_error = 3;
  device().throttle_reasons = 0x40;
  const auto d = library.read().devices.at(0);
  BOOST_TEST(d.problem.empty());
  BOOST_TEST(d.utilisation_percent == 0U);
  BOOST_TEST(d.throttle_reasons == 0U);
}

BOOST_AUTO_TEST_CASE(a_library_that_is_not_there_is_a_reason) {
  nvml absent("libno-such-nvml.so.1");
  BOOST_TEST(absent.read().problem == "NVML is not there (libno-such-nvml.so.1)");
  nvml other("libc.so.6");
  BOOST_TEST(other.read().problem == "libc.so.6 is not the NVML that we know");
}

BOOST_FIXTURE_TEST_CASE(a_start_that_fails_is_tried_again, fake) {
  state->init_error = 9;
  BOOST_TEST(library.read().problem == "NVML does not start: Driver Not Loaded");
  state->init_error = 0;
  BOOST_TEST(library.read().problem.empty());
}

BOOST_FIXTURE_TEST_CASE(two_devices_fail_apart, fake) {
  state->count = 2;
  device(0).error = 15;
  const auto readings = library.read();
  BOOST_REQUIRE(readings.devices.size() == 2U);
  BOOST_TEST(readings.devices[0].lost);
  BOOST_TEST(readings.devices[0].problem == "GPU is lost");
  BOOST_TEST(readings.devices[1].name == "Other GPU");
  BOOST_TEST(!readings.devices[1].lost);
}

BOOST_FIXTURE_TEST_CASE(critical_events_are_counted_for_their_device, fake) {
  state->count = 2;
  library.read();
  device(1).pending_xids = 2;
  device(1).xid = 48;
  const auto readings = library.read();
  BOOST_TEST(readings.devices[0].xid_events == 0U);
  BOOST_TEST(readings.devices[1].xid_events == 2U);
  BOOST_TEST(readings.devices[1].last_xid == 48U);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(gpu_judgement)

BOOST_FIXTURE_TEST_CASE(a_sound_device_is_healthy, watched) {
  const auto report = judge();
  BOOST_TEST((report.status == health_status::healthy));
  BOOST_TEST(report.component == "gpu");
  BOOST_TEST(report.message == "Fake GPU: 1024 of 8192 MiB in use, 42 % busy, 61 degrees");
}

BOOST_FIXTURE_TEST_CASE(heat_degrades_after_a_while_and_clears, watched) {
  device().throttle_reasons = 0x40;
  BOOST_TEST((judge(0s).status == health_status::healthy));
  BOOST_TEST((judge(29s).status == health_status::healthy));
  const auto late = judge(30s);
  BOOST_TEST((late.status == health_status::degraded));
  BOOST_TEST(says(late, "hardware thermal slowdown"));
  device().throttle_reasons = 0;
  BOOST_TEST((judge(31s).status == health_status::healthy));
  device().throttle_reasons = 0x40;
  BOOST_TEST((judge(60s).status == health_status::healthy));
}

BOOST_FIXTURE_TEST_CASE(a_power_cap_and_idle_clocks_are_no_fault, watched) {
  device().throttle_reasons = 0x5;
  judge(0s);
  BOOST_TEST((judge(100s).status == health_status::healthy));
}

BOOST_FIXTURE_TEST_CASE(new_memory_errors_degrade_and_old_ones_do_not, watched) {
  device().ecc_errors = 7;
  BOOST_TEST((judge().status == health_status::healthy));
  device().ecc_errors = 9;
  const auto report = judge(5s);
  BOOST_TEST((report.status == health_status::degraded));
  BOOST_TEST(says(report, "2 uncorrected memory errors"));
}

BOOST_FIXTURE_TEST_CASE(critical_events_degrade_for_a_time, watched) {
  judge();
  device().pending_xids = 1;
  device().xid = 48;
  BOOST_TEST(says(judge(1s), "Xid 48"));
  BOOST_TEST((judge(600s).status == health_status::degraded));
  BOOST_TEST((judge(602s).status == health_status::healthy));
}

BOOST_FIXTURE_TEST_CASE(a_device_off_the_bus_is_unhealthy, watched) {
  judge();
  device().pending_xids = 1;
  device().xid = 79;
  BOOST_TEST((judge(1s).status == health_status::unhealthy));
  device().error = 15;
  const auto lost = judge(2s);
  BOOST_TEST((lost.status == health_status::unhealthy));
  BOOST_TEST(says(lost, "the GPU is lost"));
}

BOOST_FIXTURE_TEST_CASE(another_device_does_not_stand_in_for_ours, watched) {
  device().bus_id = "00000000:0A:00.0";
  BOOST_TEST((judge().status == health_status::unhealthy));
  device().bus_id = "00000000:01:00.0";
  BOOST_TEST((judge().status == health_status::healthy));
}

BOOST_FIXTURE_TEST_CASE(memory_that_grows_without_end_is_called_a_leak, watched) {
  auto report = judge();
  for (int s = 0; s < 1200; s += 5) {
    device().used += 20ULL << 20;
    report = judge(std::chrono::seconds(s));
  }
  BOOST_TEST((report.status == health_status::degraded));
  BOOST_TEST(says(report, "grows steadily"));
}

BOOST_AUTO_TEST_CASE(what_is_not_used_or_not_had_is_said) {
  gpu_watch unwanted({.wanted = false, .pci_bus_id = {}, .why_not = {}}, {});
  BOOST_TEST((unwanted.judge({}, std::nullopt, start).status == health_status::healthy));
  gpu_watch fallen_back({.wanted = true, .pci_bus_id = {}, .why_not = "no CUDA device: no driver"}, {});
  const auto report = fallen_back.judge({}, std::nullopt, start);
  BOOST_TEST((report.status == health_status::degraded));
  BOOST_TEST(report.message == "no CUDA device: no driver; the engine runs on the CPU");
}

BOOST_AUTO_TEST_CASE(a_lost_device_cannot_heal_in_this_process) {
  gpu_watch watch({.wanted = true, .pci_bus_id = "0000:01:00.0", .why_not = {}}, {});
  const auto report = watch.judge({}, "The GPU 0 is lost.", start);
  BOOST_TEST((report.status == health_status::unhealthy));
  BOOST_TEST(report.cannot_heal);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_watched_is_degraded_and_a_wrong_canary_unhealthy) {
  gpu_watch watch({.wanted = true, .pci_bus_id = "0000:01:00.0", .why_not = {}}, {});
  gpu_observation seen;
  BOOST_TEST(says(watch.judge(seen, std::nullopt, start), "waiting for NVML"));
  seen.read = true;
  seen.readings.problem = "NVML is not there";
  BOOST_TEST((watch.judge(seen, std::nullopt, start).status == health_status::degraded));
  seen.canary_failure = "wrong";
  BOOST_TEST((watch.judge(seen, std::nullopt, start).status == health_status::unhealthy));
  seen.canary_failure.reset();
  seen.waiting = 4s;
  BOOST_TEST((watch.judge(seen, std::nullopt, start).status == health_status::degraded));
  seen.waiting = 6s;
  seen.waiting_for = "NVML";
  const auto report = watch.judge(seen, std::nullopt, start);
  BOOST_TEST((report.status == health_status::unhealthy));
  BOOST_TEST(report.message == "NVML has not answered for 6.0 s");
}

BOOST_AUTO_TEST_CASE(pci_bus_ids_are_the_same_in_either_spelling) {
  BOOST_TEST(same_pci_device("00000000:0A:00.0", "0000:0a:00.0"));
  BOOST_TEST(!same_pci_device("00000000:0A:00.0", "0000:0b:00.0"));
  BOOST_TEST(!same_pci_device("00000001:0A:00.0", "0000:0a:00.0"));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(gpu_monitoring)

BOOST_FIXTURE_TEST_CASE(a_monitor_reads_and_runs_canaries, fake) {
  gpu_monitor_options options;
  options.read = [this] { return library.read(); };
  options.canary = [] { return std::optional<std::string>("wrong"); };
  options.period = 1ms;
  const auto monitor = std::make_shared<gpu_monitor>(std::move(options));
  while (monitor->observe().canary_runs == 0) std::this_thread::yield();
  const auto seen = monitor->observe();
  BOOST_TEST(seen.read);
  BOOST_TEST(seen.readings.devices.at(0).name == "Fake GPU");
  BOOST_TEST(seen.canary_failure.value() == "wrong");
  BOOST_TEST(gpu_memory_mb(seen.readings, "0000:01:00.0") == 1024.0);
  BOOST_TEST(gpu_memory_mb(seen.readings, "0000:02:00.0") == 0.0);
  const auto families = gpu_metrics(monitor).Collect();
  const auto memory = std::find_if(families.begin(), families.end(),
                                   [](const auto& f) { return f.name == "bitnet_gpu_memory_used_bytes"; });
  BOOST_REQUIRE((memory != families.end()));
  BOOST_TEST(memory->metric.at(0).gauge.value == static_cast<double>(1ULL << 30));
}

BOOST_AUTO_TEST_CASE(a_library_that_hangs_holds_nobody_up) {
  // Lives as long as the thread that hangs in it.
  const auto hanging = std::make_shared<fake>();
  hanging->state->hangs = true;
  {
    gpu_monitor_options options;
    options.read = [hanging] { return hanging->library.read(); };
    gpu_monitor monitor(std::move(options));
    while (monitor.observe().waiting.value_or(0ns) < 5ms) std::this_thread::yield();
    const auto seen = monitor.observe();
    BOOST_TEST(!seen.read);
    BOOST_TEST(seen.waiting_for == std::string("NVML"));
  }  // the monitor ends while its thread hangs
  hanging->state->hangs = false;
}

BOOST_AUTO_TEST_SUITE_END()
