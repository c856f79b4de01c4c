#include "actors/gpu_supervisor.hpp"

#include "actors/aggregator.hpp"
#include "actors/device_backend.hpp"
#include "tests/unit/actors/fake_engine.hpp"
#include "tests/unit/actors/virtual_time.hpp"

#include <boost/test/unit_test.hpp>

#include <thread>

using namespace bitnet;
using namespace bitnet::actors;
using namespace bitnet::tests;
using namespace std::chrono_literals;

namespace {

struct gpu_fixture : virtual_time {
  std::shared_ptr<device_loss> loss = std::make_shared<device_loss>();
  std::shared_ptr<snapshot_store> store = std::make_shared<snapshot_store>([this] { return now(); });
  std::shared_ptr<aggregation> judged;
  aggregator_actor health;
  gpu_supervisor_actor supervisor;

  gpu_fixture() {
    aggregation_options a;
    a.components = {{"gpu", false}};
    a.gpu_memory_mb = [] { return 512.5; };
    judged = std::make_shared<aggregation>(std::move(a), store, now());
    health = system.spawn(aggregator, aggregator_options{judged});
  }
  ~gpu_fixture() {
    if (supervisor) kill(caf::actor_cast<caf::actor>(supervisor));
    kill(caf::actor_cast<caf::actor>(health));
    settle();
  }

  void start(gpu_use use) {
    gpu_supervisor_options o;
    gpu_monitor_options m;
    m.read = [] {
      gpu_readings readings;
      gpu_reading device;
      device.name = "GPU";
      device.pci_bus_id = "0000:01:00.0";
      readings.devices.push_back(device);
      return readings;
    };
    const auto monitor = std::make_shared<gpu_monitor>(std::move(m));
    while (!monitor->observe().read) std::this_thread::yield();
    o.gpu.monitor = monitor;
    o.gpu.use = std::move(use);
    o.gpu.lost = [loss = loss] { return std::vector<std::string>{loss->why().value_or("")}; };
    o.aggregator = health;
    supervisor = system.spawn(gpu_supervisor, std::move(o));
    advance(1s);
  }
  component_health gpu() { return judged->evaluate(now(), {}).components.at(0); }
};

/// A device that nobody computes on.
struct named_device final : engine::compute_device {
  std::string name() const override { return "device"; }
  engine::result<std::unique_ptr<engine::device_pass>> create_pass(const engine::model_weights&,
                                                                   const engine::pass_limits&) override {
    return engine::fail(engine::error_code::internal, "nothing here");
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(gpu_supervision)

BOOST_FIXTURE_TEST_CASE(a_gpu_in_use_is_reported_each_period, gpu_fixture) {
  start({.wanted = true, .devices = {{"cuda:0", "0000:01:00.0"}}, .why_not = {}});
  BOOST_TEST((gpu().status == health_status::healthy));
  BOOST_TEST(gpu().name == "gpu");
  advance(10s);
  BOOST_TEST((gpu().status == health_status::healthy));
  const auto snapshot = judged->evaluate(now(), {});
  BOOST_TEST(snapshot.metrics.gpu_memory_mb.value() == 512.5);
}

BOOST_FIXTURE_TEST_CASE(falling_back_to_the_cpu_degrades, gpu_fixture) {
  start({.wanted = true, .devices = {}, .why_not = "no CUDA device: no driver"});
  const auto snapshot = judged->evaluate(now(), {});
  BOOST_TEST((snapshot.overall == health_status::degraded));
  BOOST_TEST(!snapshot.cannot_heal);
  BOOST_TEST(snapshot.reason.find("the engine runs on the CPU") != std::string::npos);
}

BOOST_FIXTURE_TEST_CASE(an_engine_that_loses_its_device_ends_for_good, gpu_fixture) {
  start({.wanted = true, .devices = {{"cuda:0", "0000:01:00.0"}}, .why_not = {}});
  const auto control = std::make_shared<fake_control>();
  auto backend = fake_backend(control);
  std::shared_ptr<engine::compute_device> got;
  backend.create_engine = [&got, create = backend.create_engine](
                              auto model, const engine::generation_options& o, std::size_t index) {
    got = o.device;
    return create(model, o, index);
  };
  const auto device = std::make_shared<named_device>();
  backend = on_devices(std::move(backend),
                       {{"cuda:0", std::make_shared<named_device>()}, {"cuda:1", device, loss}});
  BOOST_TEST((backend.devices == std::vector<std::string>{"cuda:0", "cuda:1"}));
  auto created = backend.create_engine(nullptr, {}, 1);
  BOOST_REQUIRE(created.has_value());
  BOOST_TEST((got == device));
  control->during_step = [] { throw engine::device_lost("The GPU 0 is lost."); };
  BOOST_CHECK_THROW((*created)->step(), engine::device_lost);
  BOOST_TEST(backend.create_engine(nullptr, {}, 0).has_value());
  const auto again = backend.create_engine(nullptr, {}, 1);
  BOOST_REQUIRE(!again.has_value());
  BOOST_TEST(again.error().message == "The GPU 0 is lost.");
  advance(1s);
  const auto snapshot = judged->evaluate(now(), {});
  BOOST_TEST((gpu().status == health_status::unhealthy));
  BOOST_TEST(snapshot.cannot_heal);
}

BOOST_AUTO_TEST_SUITE_END()
