// A model's engines on several devices: one worker each, judged together.

#include "tests/unit/actors/supervisors_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <string>

using namespace bitnet;
using namespace bitnet::actors;
using namespace bitnet::tests;
using namespace std::chrono_literals;

namespace {

struct two_devices : engine_fixture {
  two_devices() {
    devices = {"cuda:0", "cuda:1"};
    own_weights = true;
  }
  bool says(const char* words) { return engine_health().message.find(words) != std::string::npos; }
  bool metrics_say(const char* line) { return get(probe::metrics).find(line) != std::string::npos; }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(several_devices, two_devices)

BOOST_AUTO_TEST_CASE(each_device_gets_an_engine_and_all_are_told) {
  start();
  report_memory();
  BOOST_TEST(control->created == 2);
  BOOST_TEST(control->loads == 1);
  BOOST_TEST(is(engine_health(), health_status::healthy), engine_health().message);
  BOOST_TEST(says("2 of 2 engines serve; cuda:0: "), engine_health().message);
  BOOST_TEST(says("; cuda:1: "));
  BOOST_TEST(ok(probe::ready));
  BOOST_TEST(metrics_say("\nbitnet_workers 2"));
  BOOST_TEST(metrics_say("bitnet_engine_device_serves{device=\"cuda:0\"} 1"));
  BOOST_TEST(metrics_say("bitnet_engine_device_serves{device=\"cuda:1\"} 1"));
  BOOST_TEST(metrics_say("\nbitnet_queue_capacity 4"));
}

BOOST_AUTO_TEST_CASE(requests_go_to_all_devices) {
  start();
  control->delivers = false;  // those that have come stay until all have
  control->during_step = [this] { control->delivers = control->submitted == 4; };
  auto [sink, frames] = make_sink();
  for (engine::request_id id = 1; id <= 4; ++id)
    caf::anon_send(requests, submit_atom_v, std::uint64_t{0}, request_of(id), std::uint32_t{1}, sink);
  settle();
  BOOST_TEST(control->submitted_to[0] == 2);
  BOOST_TEST(control->submitted_to[1] == 2);
  const auto ended = std::count_if(frames->begin(), frames->end(),
                                   [](const auto& f) { return f.finish == engine::finish_reason::length; });
  BOOST_TEST(ended == 4);
}

BOOST_AUTO_TEST_CASE(one_device_of_two_that_fails_degrades_by_its_name_and_the_other_serves) {
  control->dead_devices = {1};
  start();
  report_memory();
  advance(10s);
  BOOST_TEST(is(engine_health(), health_status::degraded), engine_health().message);
  BOOST_TEST(says("1 of 2 engines serve; cuda:1: "), engine_health().message);
  BOOST_TEST(says("the device fell off the bus"), engine_health().message);
  BOOST_TEST(!says("cuda:0"));
  BOOST_TEST(metrics_say("bitnet_engine_device_serves{device=\"cuda:1\"} 0"));
  auto [sink, frames] = make_sink();
  BOOST_TEST(route(1, sink).value.has_value());
  // However often it was tried: the server lives on.
  advance(600s);
  report_memory();
  BOOST_TEST(is(engine_health(), health_status::degraded), engine_health().message);
  BOOST_TEST(ok(probe::live));
  BOOST_TEST(control->submitted_to[0] == 1);
}

BOOST_AUTO_TEST_CASE(a_device_that_comes_back_serves_again) {
  control->dead_devices = {1};
  start();
  control->dead_devices.clear();
  advance(10s);
  BOOST_TEST(is(engine_health(), health_status::healthy), engine_health().message);
  BOOST_TEST(control->created == 2);
}

BOOST_AUTO_TEST_CASE(when_every_device_fails_the_engine_is_unhealthy_and_in_the_end_the_server_dead) {
  control->dead_devices = {0, 1};
  start();
  report_memory();
  BOOST_TEST(is(engine_health(), health_status::unhealthy), engine_health().message);
  BOOST_TEST(says("0 of 2 engines serve"), engine_health().message);
  advance(600s);
  report_memory();
  BOOST_TEST(!ok(probe::live));
}

BOOST_AUTO_TEST_CASE(a_device_that_computes_wrongly_is_left_out_and_the_model_stays) {
  start();
  report_memory();
  control->hashes[1] = 0x9999;
  advance(60s);
  BOOST_TEST(is(engine_health(), health_status::degraded), engine_health().message);
  BOOST_TEST(says("cuda:1: gives wrong results again and again"), engine_health().message);
  BOOST_TEST(control->loads == 1);
  auto [sink, frames] = make_sink();
  BOOST_TEST(route(1, sink).value.has_value());
  settle();
  BOOST_TEST(control->submitted_to[0] == 1);
  BOOST_TEST(ok(probe::live));
}

BOOST_AUTO_TEST_CASE(weights_that_are_wrong_on_all_devices_are_loaded_again) {
  start();
  control->hash = 0x9999;
  control->during_load = [&] { control->hash = 0x1234; };
  advance(60s);
  BOOST_TEST(control->loads == 2);
  BOOST_TEST(is(engine_health(), health_status::healthy), engine_health().message);
}

BOOST_AUTO_TEST_CASE(devices_that_disagree_from_the_start_do_not_both_serve) {
  control->hashes[1] = 0x9999;
  start();
  advance(60s);
  BOOST_TEST(is(engine_health(), health_status::degraded), engine_health().message);
  BOOST_TEST(control->loads == 1);
}

BOOST_AUTO_TEST_SUITE_END()
