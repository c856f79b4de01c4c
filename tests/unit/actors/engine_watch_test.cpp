#include "actors/engine_watch.hpp"

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <memory>

using namespace bitnet::actors;
using namespace std::chrono_literals;

namespace {

struct fixture {
  steady_time now{1000s};
  worker_observation seen;
  engine_watch watch;

  fixture() {
    seen.phase = worker_phase::idle;
    seen.queue_capacity = 4;
    run_canary();
  }

  std::int64_t ns() const { return std::chrono::nanoseconds(now.time_since_epoch()).count(); }
  void run_canary(std::uint64_t hash = 0xabc) {
    ++seen.canary_runs;
    seen.canary_hash = hash;
    seen.canary_ran_ns = ns();
  }
  void begin_step() {
    seen.phase = worker_phase::stepping;
    seen.busy_since_ns = ns();
    seen.last_progress_ns = ns();
  }
  engine_verdict judge() { return watch.judge(seen, now); }
  engine_verdict judge_after(std::chrono::nanoseconds by) {
    now += by;
    return judge();
  }
};

bool is(const engine_verdict& v, health_status s) {
  return v.status == s;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(engine_watch_rules, fixture)

BOOST_AUTO_TEST_CASE(an_idle_worker_with_a_good_canary_is_healthy) {
  const auto v = judge();
  BOOST_TEST(is(v, health_status::healthy), v.message);
  BOOST_TEST(v.takes_requests);
}

BOOST_AUTO_TEST_CASE(a_starting_or_refused_worker_takes_no_requests) {
  seen.phase = worker_phase::starting;
  BOOST_TEST(!judge().takes_requests);
  seen.phase = worker_phase::refused;
  seen.refusal = "no memory";
  const auto v = judge();
  BOOST_TEST(is(v, health_status::unhealthy));
  BOOST_TEST(v.message == "the engine did not start: no memory");
  BOOST_TEST(!v.cannot_heal);
}

BOOST_AUTO_TEST_CASE(a_worker_without_its_first_canary_takes_no_requests) {
  engine_watch fresh;
  seen.canary_runs = 0;
  const auto v = fresh.judge(seen, now);
  BOOST_TEST(is(v, health_status::unhealthy));
  BOOST_TEST(!v.takes_requests);
}

BOOST_AUTO_TEST_CASE(work_without_progress_for_two_seconds_is_a_hang) {
  begin_step();
  BOOST_TEST(is(judge_after(2000ms), health_status::healthy));
  const auto v = judge_after(1ms);
  BOOST_TEST(is(v, health_status::unhealthy));
  BOOST_TEST(v.message.find("hung") == 0U);
  BOOST_TEST(!v.takes_requests);
  BOOST_TEST(!v.cannot_heal);
}

BOOST_AUTO_TEST_CASE(a_hanging_worker_is_given_up_only_after_ten_seconds) {
  begin_step();
  BOOST_TEST(!judge_after(10s).replace);
  BOOST_TEST(judge_after(1ms).replace);
}

BOOST_AUTO_TEST_CASE(a_slow_pass_that_goes_on_after_all_takes_requests_again) {
  begin_step();
  BOOST_TEST(!judge_after(5s).takes_requests);
  seen.last_progress_ns = ns();
  BOOST_TEST(judge().takes_requests);
}

BOOST_AUTO_TEST_CASE(a_long_prefill_that_ticks_at_every_layer_is_no_hang) {
  begin_step();
  for (int layer = 0; layer < 60; ++layer) {
    seen.last_progress_ns = ns();
    seen.prompt_tokens += 1;
    BOOST_TEST(is(judge_after(1500ms), health_status::healthy));
  }
}

BOOST_AUTO_TEST_CASE(the_hang_limit_follows_measured_step_times) {
  seen.step_seconds_p99 = 0.8;
  begin_step();
  BOOST_TEST(is(judge_after(8000ms), health_status::healthy));
  BOOST_TEST(!judge_after(1ms).takes_requests);
}

BOOST_AUTO_TEST_CASE(the_hang_limit_has_a_ceiling) {
  seen.step_seconds_p99 = 3600;
  begin_step();
  run_canary();
  BOOST_TEST(judge_after(30s).takes_requests);
  BOOST_TEST(!judge_after(1ms).takes_requests);
}

BOOST_AUTO_TEST_CASE(a_hang_of_a_minute_cannot_be_healed_from_inside) {
  begin_step();
  BOOST_TEST(!judge_after(60s).cannot_heal);
  BOOST_TEST(judge_after(1ms).cannot_heal);
}

BOOST_AUTO_TEST_CASE(an_idle_worker_never_hangs_however_old_its_last_progress) {
  seen.last_progress_ns = ns();
  now += 3600s;
  run_canary();
  BOOST_TEST(is(judge(), health_status::healthy));
}

BOOST_AUTO_TEST_CASE(progress_from_before_the_step_does_not_count_against_it) {
  seen.last_progress_ns = ns();
  now += 100s;
  run_canary();
  seen.phase = worker_phase::stepping;
  seen.busy_since_ns = ns();
  BOOST_TEST(is(judge_after(1s), health_status::healthy));
}

BOOST_AUTO_TEST_CASE(a_canary_that_hangs_is_seen) {
  begin_step();
  seen.phase = worker_phase::probing;
  const auto v = judge_after(3s);
  BOOST_TEST(!v.takes_requests);
  BOOST_TEST(v.message.find("hung: a canary") == 0U);
}

BOOST_AUTO_TEST_CASE(passes_without_tokens_are_a_livelock) {
  seen.running = 1;
  judge();
  engine_verdict v;
  for (int i = 0; i <= 25; ++i) {
    seen.passes += 10;
    seen.last_progress_ns = ns();
    v = judge_after(1s);
    if (i < 25) BOOST_TEST(is(v, health_status::healthy), i);
  }
  BOOST_TEST(is(v, health_status::unhealthy));
  BOOST_TEST(v.code == "livelock");
  BOOST_TEST(v.replace);
}

BOOST_AUTO_TEST_CASE(sequences_that_run_without_any_pass_are_a_livelock) {
  seen.running = 1;
  judge();
  BOOST_TEST(is(judge_after(25s), health_status::healthy));
  BOOST_TEST(judge_after(1ms).code == "livelock");
}

BOOST_AUTO_TEST_CASE(a_few_long_passes_over_a_prompt_that_is_computed_again_are_no_livelock) {
  seen.running = 1;
  judge();
  for (int i = 0; i < 120; ++i) {
    if (i % 2 == 0) ++seen.passes;
    seen.last_progress_ns = ns();
    run_canary();
    BOOST_TEST(is(judge_after(1s), health_status::healthy), i);
  }
}

BOOST_AUTO_TEST_CASE(tokens_now_and_then_are_no_livelock) {
  seen.running = 1;
  for (int i = 0; i < 10; ++i) {
    ++seen.generated_tokens;
    run_canary();
    BOOST_TEST(is(judge_after(25s), health_status::healthy));
  }
}

BOOST_AUTO_TEST_CASE(a_queue_that_waits_while_nothing_runs_is_a_deadlock) {
  seen.queued = 2;
  judge();
  BOOST_TEST(is(judge_after(7s), health_status::healthy));
  const auto v = judge_after(1ms);
  BOOST_TEST(is(v, health_status::unhealthy));
  BOOST_TEST(v.code == "deadlock");
  BOOST_TEST(v.replace);
  BOOST_TEST(judge_after(54s).cannot_heal);
  seen.queued = 0;
  BOOST_TEST(is(judge(), health_status::healthy));
}

BOOST_AUTO_TEST_CASE(a_queue_that_waits_for_the_first_long_pass_is_no_deadlock) {
  seen.queued = 2;
  judge();
  for (int i = 0; i < 60; ++i) {
    seen.last_progress_ns = ns();
    run_canary();
    BOOST_TEST(is(judge_after(1s), health_status::healthy), i);
  }
  BOOST_TEST(judge_after(2s).code == "deadlock");
}

BOOST_AUTO_TEST_CASE(a_changed_hash_of_the_canary_is_unhealthy_at_once) {
  judge();
  run_canary(0xabd);
  const auto v = judge();
  BOOST_TEST(is(v, health_status::unhealthy));
  BOOST_TEST(v.wrong_results);
  BOOST_TEST(!v.takes_requests);
}

BOOST_AUTO_TEST_CASE(the_golden_hash_outlives_the_worker) {
  judge();
  engine_watch next({}, watch.golden());
  run_canary(0xabd);
  BOOST_TEST(next.judge(seen, now).wrong_results);
  run_canary(0xabc);
  BOOST_TEST(!next.judge(seen, now).wrong_results);
}

BOOST_AUTO_TEST_CASE(a_canary_without_a_result_is_unhealthy_until_one_succeeds) {
  judge();
  seen.canary_failed = true;
  BOOST_TEST(is(judge(), health_status::unhealthy));
  seen.canary_failed = false;
  BOOST_TEST(is(judge(), health_status::healthy));
}

BOOST_AUTO_TEST_CASE(an_overdue_canary_is_unhealthy) {
  judge();
  BOOST_TEST(is(judge_after(90s), health_status::healthy));
  BOOST_TEST(is(judge_after(1ms), health_status::unhealthy));
}

BOOST_AUTO_TEST_CASE(one_failed_computation_is_the_requests_problem_three_are_the_engines) {
  judge();
  seen.failed_sequences = seen.failed_steps = 2;
  BOOST_TEST(is(judge_after(1s), health_status::healthy));
  seen.failed_sequences = seen.failed_steps = 3;
  BOOST_TEST(is(judge_after(1s), health_status::unhealthy));
  run_canary();
  now += 62s;
  judge();
  run_canary();
  BOOST_TEST(is(judge_after(1s), health_status::healthy));
}

BOOST_AUTO_TEST_CASE(one_bad_step_of_a_whole_batch_is_one_failure) {
  judge();
  seen.finished_sequences = 20;
  seen.failed_sequences = 8;
  seen.failed_steps = 1;
  BOOST_TEST(is(judge_after(1s), health_status::healthy));
}

BOOST_AUTO_TEST_CASE(a_high_error_rate_degrades_with_hysteresis) {
  judge();
  seen.finished_sequences = 27;
  seen.failed_sequences = seen.failed_steps = 3;
  auto v = judge_after(1s);
  BOOST_TEST(is(v, health_status::degraded));
  BOOST_TEST(v.takes_requests);
  seen.finished_sequences = 57;  // 5 %: not below half of the threshold
  BOOST_TEST(is(judge_after(1s), health_status::degraded));
  seen.finished_sequences = 58;
  BOOST_TEST(is(judge_after(1s), health_status::healthy));
}

BOOST_AUTO_TEST_CASE(few_requests_make_no_error_rate) {
  judge();
  seen.finished_sequences = 16;
  seen.failed_sequences = seen.failed_steps = 3;
  BOOST_TEST(is(judge_after(1s), health_status::healthy));
}

BOOST_AUTO_TEST_CASE(a_full_queue_degrades_until_a_quarter_is_free) {
  seen.running = 1;
  seen.queued = 4;
  BOOST_TEST(is(judge(), health_status::degraded));
  seen.queued = 3;
  BOOST_TEST(is(judge(), health_status::degraded));
  seen.queued = 2;
  BOOST_TEST(is(judge(), health_status::healthy));
}

BOOST_AUTO_TEST_CASE(p99_of_the_ring_counts_filled_entries_only) {
  worker_board board(0, 1);
  BOOST_TEST(step_seconds_p99(board) == 0.0);
  for (std::uint32_t i = 0; i < 100; ++i) board.step_us[i] = 1000 * (i + 1);
  board.steps = 100;
  BOOST_TEST(step_seconds_p99(board) == 0.099, boost::test_tools::tolerance(1e-9));
  board.steps = 1;
  BOOST_TEST(step_seconds_p99(board) == 0.001, boost::test_tools::tolerance(1e-9));
}

BOOST_AUTO_TEST_CASE(kv_blocks_that_an_idle_engine_keeps_are_a_leak) {
  seen.kv_blocks_used = 2;
  seen.running = 1;
  BOOST_TEST(is(judge_after(8s), health_status::healthy));  // a sequence has them
  seen.running = 0;
  BOOST_TEST(is(judge_after(1s), health_status::healthy));
  run_canary();
  BOOST_TEST(is(judge_after(2999ms), health_status::healthy));
  const auto v = judge_after(1ms);
  BOOST_TEST(is(v, health_status::degraded));
  BOOST_TEST(v.code == "kv_leak");
  BOOST_TEST(v.takes_requests);
  seen.kv_blocks_used = 0;
  BOOST_TEST(is(judge_after(1s), health_status::healthy));
}

BOOST_AUTO_TEST_CASE(blocks_of_short_requests_that_come_one_after_another_are_no_leak) {
  seen.kv_blocks_used = 1;
  for (int i = 0; i < 10; ++i) {
    ++seen.finished_sequences;  // and each look falls between two of them
    run_canary();
    BOOST_TEST(is(judge_after(1s), health_status::healthy));
  }
}

BOOST_AUTO_TEST_CASE(passes_that_take_far_longer_than_before_degrade) {
  const auto run = [this](int seconds, double step_seconds) {
    engine_verdict v;
    for (int i = 0; i < seconds; ++i) {
      const auto steps = static_cast<std::uint64_t>(1 / step_seconds);
      seen.steps += steps;
      seen.generated_tokens += 4 * steps;
      seen.step_seconds += static_cast<double>(steps) * step_seconds;
      run_canary();
      v = judge_after(1s);
    }
    return v;
  };
  seen.running = 4;
  BOOST_TEST(is(run(30, 0.01), health_status::healthy));
  const auto v = run(25, 0.4);
  BOOST_TEST(is(v, health_status::degraded), v.message);
  BOOST_TEST(v.code == "throughput_collapse");
  BOOST_TEST(v.takes_requests);
  BOOST_TEST(is(run(5, 0.01), health_status::healthy));
}

BOOST_AUTO_TEST_SUITE_END()
