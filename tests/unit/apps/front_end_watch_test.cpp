#include "apps/bitnet_server/front_end_watch.hpp"

#include <boost/test/unit_test.hpp>

using namespace bitnet::apps;
using bitnet::actors::health_status;
using namespace std::chrono_literals;

namespace {

struct watch_fixture {
  front_end_watch watch;
  front_end_watch::reading now{0ms, 3, 100, 0};
  bitnet::actors::steady_time time{1000s};

  bitnet::actors::component_report next() { return watch.judge(now, time += 1s); }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(front_end_watch_rules, watch_fixture)

BOOST_AUTO_TEST_CASE(threads_that_answer_are_healthy) {
  const auto r = next();
  BOOST_TEST(r.component == "http");
  BOOST_TEST((r.status == health_status::healthy));
  BOOST_TEST(r.code == "ok");
}

BOOST_AUTO_TEST_CASE(a_thread_that_stays_silent_is_unhealthy_at_the_second_look) {
  now.silence = 2001ms;
  BOOST_TEST((next().status == health_status::healthy));
  now.silence = 3001ms;
  const auto r = next();
  BOOST_TEST((r.status == health_status::unhealthy));
  BOOST_TEST(r.code == "http_thread_hung");
  now.silence = 0ms;
  BOOST_TEST((next().status == health_status::healthy));
}

BOOST_AUTO_TEST_CASE(a_stop_of_the_whole_process_is_no_silence_of_a_thread) {
  for (int i = 0; i < 5; ++i) {
    time += 30s;
    now.silence = 30s;
    BOOST_TEST((next().status == health_status::healthy));
    now.silence = 0ms;
    BOOST_TEST((next().status == health_status::healthy));
  }
}

BOOST_AUTO_TEST_CASE(clients_turned_away_degrade_for_four_seconds) {
  now.refused = 4;
  auto r = next();
  BOOST_TEST((r.status == health_status::degraded));
  BOOST_TEST(r.code == "connections_refused");
  for (int i = 0; i < 3; ++i) BOOST_TEST((next().status == health_status::degraded), i);
  BOOST_TEST((next().status == health_status::healthy));
  now.refused = 5;
  BOOST_TEST((next().status == health_status::degraded));
}

BOOST_AUTO_TEST_SUITE_END()
