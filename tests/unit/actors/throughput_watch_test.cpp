#include "actors/throughput_watch.hpp"

#include <boost/test/unit_test.hpp>

using namespace bitnet::actors;
using namespace std::chrono_literals;

namespace {

/// A worker that computes without a pause.
struct worker_model {
  throughput_watch watch;
  work_done work;
  steady_time now{1000s};
  std::optional<double> slow;

  void run(std::chrono::seconds length, double step_seconds, std::uint64_t tokens_a_step,
           std::uint64_t kv = 10, double waiting = 0) {
    work.kv_blocks_used = kv;
    double until_next = step_seconds;
    for (auto left = std::chrono::milliseconds(length); left > 0ms; left -= 500ms) {
      for (double t = 0.5; t >= until_next; until_next += step_seconds) {
        ++work.steps;
        work.tokens += tokens_a_step;
        work.step_seconds += step_seconds;
        work.cpu_wait_seconds += step_seconds * waiting;
      }
      until_next -= 0.5;
      now += 500ms;
      slow = watch.update(work, now);
    }
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(throughput_watch_rules, worker_model)

BOOST_AUTO_TEST_CASE(steps_that_become_far_slower_are_a_collapse_after_a_while) {
  run(30s, 0.01, 4);
  BOOST_TEST(!slow);
  run(19s, 0.4, 4);
  BOOST_TEST(!slow);
  run(4s, 0.4, 4);
  BOOST_REQUIRE(slow.has_value());
  BOOST_TEST(*slow > 30);
  run(4s, 0.01, 4);
  BOOST_TEST(!slow);
}

BOOST_AUTO_TEST_CASE(a_few_times_slower_is_no_collapse) {
  run(30s, 0.01, 4);
  run(120s, 0.09, 4);
  BOOST_TEST(!slow);
}

BOOST_AUTO_TEST_CASE(a_machine_that_others_keep_busy_is_no_collapse_and_does_not_become_usual) {
  run(30s, 0.01, 4);
  run(120s, 0.4, 4, 10, 0.9);
  BOOST_TEST(!slow);
  run(60s, 0.4, 4, 10, 1.8);  // both threads of a team waited
  BOOST_TEST(!slow);
  run(24s, 0.4, 4);
  BOOST_TEST(slow.has_value());
}

BOOST_AUTO_TEST_CASE(larger_batches_and_longer_contexts_are_compared_with_their_like) {
  run(30s, 0.01, 4, 10);
  run(60s, 0.3, 256, 10);  // prompts
  BOOST_TEST(!slow);
  run(60s, 0.2, 4, 1000);  // long contexts
  BOOST_TEST(!slow);
  run(60s, 0.01, 4, 10);
  BOOST_TEST(!slow);
}

BOOST_AUTO_TEST_CASE(a_collapse_is_seen_although_it_changes_the_kinds_of_steps) {
  run(30s, 0.01, 4, 10);
  // Slow steps gather requests: more tokens and more context than ever before.
  run(24s, 0.5, 12, 30);
  BOOST_REQUIRE(slow.has_value());
  BOOST_TEST(*slow > 20);
}

BOOST_AUTO_TEST_CASE(a_kind_of_steps_that_is_new_may_take_its_time) {
  run(30s, 0.01, 4, 10);
  run(60s, 0.15, 60, 10);  // 15 times the tokens
  BOOST_TEST(!slow);
  run(60s, 0.15, 4, 160);
  BOOST_TEST(!slow);
}

BOOST_AUTO_TEST_CASE(a_short_pause_of_the_machine_is_forgiven) {
  run(30s, 0.01, 4);
  run(10s, 0.4, 4);
  run(10s, 0.01, 4);
  run(15s, 0.4, 4);
  BOOST_TEST(!slow);
}

BOOST_AUTO_TEST_CASE(an_idle_engine_is_not_slow) {
  run(30s, 0.01, 4);
  run(30s, 0.4, 4);
  BOOST_TEST(slow.has_value());
  for (int i = 0; i < 100; ++i) slow = watch.update(work, now += 500ms);
  BOOST_TEST(!slow);
}

BOOST_AUTO_TEST_CASE(what_was_slow_from_the_start_is_what_is_usual) {
  run(60s, 0.2, 4);
  BOOST_TEST(!slow);
}

BOOST_AUTO_TEST_SUITE_END()
