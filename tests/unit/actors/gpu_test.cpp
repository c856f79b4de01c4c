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
    return watch.judge(seen, {}, start + at);
  }
  gpu_watch watch{{.wanted = true, .devices = {{"cuda:0", "0000:01:00.0"}}, .why_not = {}}, {}};
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

namespace {

/// A watch over both fake devices.
struct two_watched : fake {
  two_watched() { state->count = 2; }
  component_report judge(std::chrono::seconds at = 0s, const std::vector<std::string>& lost = {}) {
    gpu_observation seen;
    seen.readings = library.read();
    seen.read = true;
    seen.canary_failures = canary_failures;
    return watch.judge(seen, lost, start + at);
  }
  std::vector<std::string> canary_failures;
  gpu_watch watch{
      {.wanted = true, .devices = {{"cuda:0", "0000:01:00.0"}, {"cuda:1", "0000:02:00.0"}}, .why_not = {}},
      {}};
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(of_two_sound_devices_both_are_told, two_watched) {
  const auto report = judge();
  BOOST_TEST((report.status == health_status::healthy));
  BOOST_TEST(says(report, "cuda:0: Fake GPU: 1024 of 8192 MiB"));
  BOOST_TEST(says(report, "cuda:1: Other GPU: 1024 of 8192 MiB"));
}

BOOST_FIXTURE_TEST_CASE(one_lost_device_of_two_degrades_by_its_name_and_two_are_unhealthy, two_watched) {
  judge();
  device(1).error = 15;
  const auto one = judge(1s);
  BOOST_TEST((one.status == health_status::degraded));
  BOOST_TEST(one.message == "1 of 2 GPUs: cuda:1: the GPU is lost: GPU is lost");
  device(0).error = 15;
  const auto both = judge(2s);
  BOOST_TEST((both.status == health_status::unhealthy));
  BOOST_TEST(both.message == "all 2 GPUs: the GPU is lost: GPU is lost");
  BOOST_TEST(!both.cannot_heal);
  device(0).error = device(1).error = 0;
  BOOST_TEST((judge(3s).status == health_status::healthy));
}

BOOST_FIXTURE_TEST_CASE(devices_are_judged_by_their_own_history, two_watched) {
  device(0).ecc_errors = 9;
  judge();
  device(1).ecc_errors = 4;
  device(0).throttle_reasons = 0x40;
  const auto one = judge(1s);
  BOOST_TEST((one.status == health_status::degraded));
  BOOST_TEST(says(one, "1 of 2 GPUs: cuda:1: 4 uncorrected memory errors"));
  const auto both = judge(40s);
  BOOST_TEST((both.status == health_status::degraded));
  BOOST_TEST(says(both, "2 of 2 GPUs: cuda:0: slowed down"));
}

BOOST_FIXTURE_TEST_CASE(a_device_that_is_gone_or_computes_wrongly_is_named, two_watched) {
  canary_failures = {"", "a product is wrong"};
  const auto wrong = judge();
  BOOST_TEST((wrong.status == health_status::degraded));
  BOOST_TEST(wrong.message == "1 of 2 GPUs: cuda:1: the canary kernel failed: a product is wrong");
  canary_failures.clear();
  state->count = 1;
  const auto gone = judge(1s);
  BOOST_TEST((gone.status == health_status::degraded));
  BOOST_TEST(gone.message == "1 of 2 GPUs: cuda:1: the device 0000:02:00.0 is not there any more");
}

BOOST_FIXTURE_TEST_CASE(losing_every_device_to_this_process_cannot_heal_and_losing_one_degrades,
                        two_watched) {
  const auto one = judge(0s, {"", "The GPU 1 is lost."});
  BOOST_TEST((one.status == health_status::degraded));
  BOOST_TEST(!one.cannot_heal);
  BOOST_TEST(says(one, "cuda:1: The GPU 1 is lost."));
  const auto both = judge(1s, {"The GPU 0 is lost.", "The GPU 1 is lost."});
  BOOST_TEST((both.status == health_status::unhealthy));
  BOOST_TEST(both.cannot_heal);
}

BOOST_AUTO_TEST_CASE(what_is_not_used_or_not_had_is_said) {
  gpu_watch unwanted({.wanted = false, .devices = {}, .why_not = {}}, {});
  BOOST_TEST((unwanted.judge({}, {}, start).status == health_status::healthy));
  gpu_watch fallen_back({.wanted = true, .devices = {}, .why_not = "no CUDA device: no driver"}, {});
  const auto report = fallen_back.judge({}, {}, start);
  BOOST_TEST((report.status == health_status::degraded));
  BOOST_TEST(report.message == "no CUDA device: no driver; the engine runs on the CPU");
}

BOOST_AUTO_TEST_CASE(a_lost_device_cannot_heal_in_this_process) {
  gpu_watch watch({.wanted = true, .devices = {{"cuda:0", "0000:01:00.0"}}, .why_not = {}}, {});
  const auto report = watch.judge({}, {"The GPU 0 is lost."}, start);
  BOOST_TEST((report.status == health_status::unhealthy));
  BOOST_TEST(report.cannot_heal);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_watched_is_degraded_and_a_wrong_canary_unhealthy) {
  gpu_watch watch({.wanted = true, .devices = {{"cuda:0", "0000:01:00.0"}}, .why_not = {}}, {});
  gpu_observation seen;
  BOOST_TEST(says(watch.judge(seen, {}, start), "waiting for NVML"));
  seen.read = true;
  seen.readings.problem = "NVML is not there";
  BOOST_TEST((watch.judge(seen, {}, start).status == health_status::degraded));
  seen.canary_failures = {"wrong"};
  BOOST_TEST((watch.judge(seen, {}, start).status == health_status::unhealthy));
  seen.canary_failures = {""};
  seen.waiting = 4s;
  BOOST_TEST((watch.judge(seen, {}, start).status == health_status::degraded));
  seen.waiting = 6s;
  seen.waiting_for = "NVML";
  const auto report = watch.judge(seen, {}, start);
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

namespace {

std::string label(const prometheus::ClientMetric& metric, const std::string& name) {
  for (const auto& one : metric.label)
    if (one.name == name) return one.value;
  return "";
}

}  // namespace

BOOST_FIXTURE_TEST_CASE(a_monitor_reads_and_runs_canaries, fake) {
  gpu_monitor_options options;
  options.read = [this] { return library.read(); };
  options.canary = [] { return std::vector<std::string>{"wrong"}; };
  options.period = 1ms;
  const auto monitor = std::make_shared<gpu_monitor>(std::move(options));
  while (monitor->observe().canary_runs == 0) std::this_thread::yield();
  const auto seen = monitor->observe();
  BOOST_TEST(seen.read);
  BOOST_TEST(seen.readings.devices.at(0).name == "Fake GPU");
  BOOST_TEST(seen.canary_failures.at(0) == "wrong");
  const std::vector<gpu_use::device> ours{{"cuda:0", "0000:01:00.0"}};
  const std::vector<gpu_use::device> other{{"cuda:0", "0000:02:00.0"}};
  BOOST_TEST(gpu_memory_mb(seen.readings, ours) == 1024.0);
  BOOST_TEST(gpu_memory_mb(seen.readings, other) == 0.0);
  const auto families = gpu_metrics(monitor, ours).Collect();
  const auto memory = std::find_if(families.begin(), families.end(),
                                   [](const auto& f) { return f.name == "bitnet_gpu_memory_used_bytes"; });
  BOOST_REQUIRE((memory != families.end()));
  BOOST_TEST(memory->metric.at(0).gauge.value == static_cast<double>(1ULL << 30));
  BOOST_TEST(label(memory->metric.at(0), "device") == "cuda:0");
  BOOST_TEST(label(gpu_metrics(monitor, other).Collect().at(0).metric.at(0), "device") == "");
}

BOOST_FIXTURE_TEST_CASE(metrics_tell_devices_apart, fake) {
  state->count = 2;
  device(1).used = 3ULL << 30;
  gpu_monitor_options options;
  options.read = [this] { return library.read(); };
  const auto monitor = std::make_shared<gpu_monitor>(std::move(options));
  while (!monitor->observe().read) std::this_thread::yield();
  // CUDA counts them the other way round.
  const std::vector<gpu_use::device> used{{"cuda:0", "0000:02:00.0"}, {"cuda:1", "0000:01:00.0"}};
  BOOST_TEST(gpu_memory_mb(monitor->observe().readings, used) == 4096.0);
  const auto family = gpu_metrics(monitor, used).Collect().at(0);
  BOOST_TEST(family.name == "bitnet_gpu_memory_used_bytes");
  BOOST_REQUIRE(family.metric.size() == 2U);
  BOOST_TEST(label(family.metric[1], "device") == "cuda:0");
  BOOST_TEST(family.metric[1].gauge.value == static_cast<double>(3ULL << 30));
  BOOST_TEST(label(family.metric[0], "device") == "cuda:1");
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
