#include "server_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

using namespace bitnet::http;
using namespace bitnet::http::test;
using namespace std::chrono_literals;

namespace {

using clock_type = std::chrono::steady_clock;

}  // namespace

BOOST_AUTO_TEST_SUITE(server_stop)

BOOST_FIXTURE_TEST_CASE(draining_keeps_probes_and_moves_api_clients_away, server_fixture) {
  start();
  auto probing = connect();
  BOOST_REQUIRE(status_of(probing.ask(live_request)) == 200U);
  auto asking = connect();
  BOOST_REQUIRE(status_of(asking.ask(echo_request("x"))) == 200U);
  probes.ready = false;
  front_end->begin_drain();
  // Established and new connections.
  BOOST_TEST(status_of(probing.ask(live_request)) == 200U);
  BOOST_TEST(status_of(probing.ask(ready_request)) == 503U);
  auto fresh = connect();
  BOOST_TEST(status_of(fresh.ask(live_request)) == 200U);
  BOOST_TEST(status_of(fresh.ask(ready_request)) == 503U);
  const auto answer = asking.ask(echo_request("y"));
  BOOST_TEST(body_of(answer) == "y");
  BOOST_TEST(contains(answer, "Connection: close"));
  BOOST_TEST(asking.wait_for_close());
}

BOOST_FIXTURE_TEST_CASE(stop_closes_idle_connections_and_the_listener, server_fixture) {
  options.threads = 2;
  start();
  auto idle = connect();
  BOOST_REQUIRE(status_of(idle.ask(live_request)) == 200U);
  auto silent = connect();
  const auto before = clock_type::now();
  front_end->stop(1min);
  BOOST_TEST((clock_type::now() - before < 30s));
  BOOST_TEST(idle.wait_for_close());
  BOOST_TEST(silent.wait_for_close());
  BOOST_TEST(!connect().connected());
  BOOST_TEST(front_end->statistics().connections_open == 0U);
}

BOOST_FIXTURE_TEST_CASE(stop_lets_exchanges_finish, server_fixture) {
  start();
  auto client = connect();
  BOOST_REQUIRE(client.send(wait_request));
  auto call = api.take();
  BOOST_REQUIRE(call.writer != nullptr);
  call.writer->begin_stream(200, {});
  call.writer->write("first ");
  std::thread stopper{[&] { front_end->stop(1min); }};
  // The listener is gone, the stream is not.
  BOOST_TEST(eventually([&] { return !connect().connected(); }));
  call.writer->write("second");
  call.writer->end_stream();
  bool closed = false;
  const auto answer = client.receive_all(closed);
  stopper.join();
  BOOST_TEST(closed);
  BOOST_TEST(contains(answer, "first "));
  BOOST_TEST(contains(answer, "second\r\n0\r\n\r\n"));
  BOOST_TEST(api.cancellations() == 0);
}

BOOST_FIXTURE_TEST_CASE(stop_cancels_what_outlasts_the_grace, server_fixture) {
  start();
  auto client = connect();
  BOOST_REQUIRE(client.send(wait_request));
  const auto call = api.take();
  BOOST_REQUIRE(call.writer != nullptr);
  const auto before = clock_type::now();
  front_end->stop(200ms);
  BOOST_TEST((clock_type::now() - before >= 200ms));
  BOOST_TEST((clock_type::now() - before < 20s));
  BOOST_TEST(api.cancellations() == 1);
  BOOST_TEST(client.wait_for_close());
}

BOOST_FIXTURE_TEST_CASE(writers_may_outlive_the_server, server_fixture) {
  start();
  auto client = connect();
  BOOST_REQUIRE(client.send(wait_request));
  auto call = api.take();
  BOOST_REQUIRE(call.writer != nullptr);
  call.writer->begin_stream(200, {});
  front_end.reset();
  call.writer->write("for nobody");
  call.writer->end_stream();
  call.writer.reset();
  BOOST_TEST(api.cancellations() == 1);
}

BOOST_FIXTURE_TEST_CASE(writers_may_race_with_stop, server_fixture) {
  options.threads = 2;
  start();
  std::atomic<int> begun{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      auto client = connect();
      client.send(wait_request);
      const auto call = api.take();
      if (!call.writer) return;
      call.writer->begin_stream(200, {});
      ++begun;
      for (int i = 0; i < 20'000; ++i) call.writer->write("x");
    });
  }
  BOOST_REQUIRE(eventually([&] { return begun == 4; }));
  front_end->stop(20ms);
  for (auto& thread : threads) thread.join();
  BOOST_TEST(front_end->statistics().connections_open == 0U);
}

BOOST_FIXTURE_TEST_CASE(stop_is_idempotent_and_may_be_called_by_several, server_fixture) {
  start();
  std::thread other{[&] { front_end->stop(0ms); }};
  front_end->stop(0ms);
  other.join();
  front_end->stop(0ms);
  BOOST_TEST(!connect().connected());
}

BOOST_AUTO_TEST_SUITE_END()
