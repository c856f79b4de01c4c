#include "actors/engine_process/standstill.hpp"

#include <boost/test/unit_test.hpp>

using namespace bitnet::actors;
using namespace std::chrono_literals;

namespace {

struct standstill_fixture {
  standstill watch{10s, 5};
  standstill::time_point now{1000s};
  std::uint64_t beats = 1;
  bool after(std::chrono::milliseconds by) { return watch.update(beats, now += by); }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(standstill_rules, standstill_fixture)

BOOST_AUTO_TEST_CASE(a_counter_that_moves_never_stands_still) {
  for (int i = 0; i < 1000; ++i) {
    ++beats;
    BOOST_TEST(!after(9s));
    BOOST_TEST(!after(900ms));
  }
}

BOOST_AUTO_TEST_CASE(a_counter_that_stands_still_is_noticed_after_the_limit) {
  BOOST_TEST(!after(500ms));
  for (int i = 0; i < 20; ++i) BOOST_TEST(!after(500ms), i);
  BOOST_TEST(after(500ms));
  BOOST_TEST(after(500ms));
  ++beats;
  BOOST_TEST(!after(500ms));
}

BOOST_AUTO_TEST_CASE(late_looks_leave_the_other_time_to_run) {
  BOOST_TEST(!after(500ms));
  BOOST_TEST(!after(1h));  // the looker was stopped
  for (int i = 0; i < 3; ++i) BOOST_TEST(!after(500ms));
  BOOST_TEST(after(500ms));
}

BOOST_AUTO_TEST_CASE(whoever_is_excused_begins_again) {
  BOOST_TEST(!after(500ms));
  BOOST_TEST(!after(9s));
  watch.excuse();
  for (int i = 0; i < 21; ++i) BOOST_TEST(!after(500ms));
  BOOST_TEST(after(500ms));
}

BOOST_AUTO_TEST_SUITE_END()
