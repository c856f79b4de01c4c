#include "actors/aggregation.hpp"

#include "actors/health_render.hpp"
#include "actors/hysteresis.hpp"
#include "actors/restart_policy.hpp"

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <string>

using namespace bitnet::actors;
using namespace std::chrono_literals;

namespace {

component_report report_of(std::string component, health_status status = health_status::healthy,
                           std::string message = "fine", bool cannot_heal = false) {
  component_report r;
  r.component = std::move(component);
  r.status = status;
  r.message = std::move(message);
  r.cannot_heal = cannot_heal;
  r.check_ns = 1500;
  r.period_ns = 1'000'000'000;
  return r;
}

struct fixture {
  steady_time start{1000s};
  wall_time wall{std::chrono::sys_days{std::chrono::year{2026} / 3 / 9}};
  steady_time now = start;
  std::shared_ptr<snapshot_store> store = std::make_shared<snapshot_store>([this] { return now; });
  aggregation_options options;

  aggregation make() { return aggregation(options, store, start); }

  void report_all(aggregation& a) {
    for (const auto* name : {"model", "memory", "inference_engine"}) a.report(report_of(name), now, wall);
  }
  /// Evaluates every 200 ms, as the aggregator does.
  health_snapshot advance(aggregation& a, std::chrono::milliseconds by) {
    for (auto left = by; left > 0ms; left -= 200ms) {
      now += std::min(left, std::chrono::milliseconds(200));
      a.evaluate(now, wall);
    }
    return a.evaluate(now, wall);
  }
  std::string answer(probe which) {
    std::string out;
    store->append_answer(which, false, true, out);
    return out;
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(aggregation_rules, fixture)

BOOST_AUTO_TEST_CASE(nothing_is_healthy_before_the_first_reports) {
  auto a = make();
  const auto s = a.evaluate(now, wall);
  BOOST_TEST((s.overall == health_status::unhealthy));
  BOOST_TEST(s.components.size() == 3U);
  BOOST_TEST(!s.cannot_heal);
}

BOOST_AUTO_TEST_CASE(all_healthy_components_make_a_healthy_server) {
  auto a = make();
  report_all(a);
  const auto s = a.evaluate(now, wall);
  BOOST_TEST((s.overall == health_status::healthy));
  BOOST_TEST(s.reason == "");
  BOOST_TEST(ready_status_code(s) == 200U);
}

BOOST_AUTO_TEST_CASE(each_critical_component_that_is_unhealthy_makes_the_server_unhealthy) {
  for (const auto* name : {"model", "memory", "inference_engine"}) {
    auto a = make();
    report_all(a);
    a.report(report_of(name, health_status::unhealthy, "broken"), now, wall);
    const auto s = a.evaluate(now, wall);
    BOOST_TEST((s.overall == health_status::unhealthy), name);
    BOOST_TEST(s.reason == std::string(name) + ": broken");
    BOOST_TEST(live_status_code(s, false) == 200U);
  }
}

BOOST_AUTO_TEST_CASE(a_degraded_component_degrades_the_server) {
  auto a = make();
  report_all(a);
  a.report(report_of("memory", health_status::degraded), now, wall);
  const auto s = a.evaluate(now, wall);
  BOOST_TEST((s.overall == health_status::degraded));
  BOOST_TEST(ready_status_code(s) == 503U);
  BOOST_TEST(health_status_code(s, {.degraded_ok = false}) == 503U);
  BOOST_TEST(health_status_code(s, {.degraded_ok = true}) == 200U);
}

BOOST_AUTO_TEST_CASE(an_unhealthy_component_that_is_not_critical_only_degrades) {
  options.components.push_back({"gpu", false});
  auto a = make();
  report_all(a);
  a.report(report_of("gpu", health_status::unhealthy), now, wall);
  BOOST_TEST((a.evaluate(now, wall).overall == health_status::degraded));
}

BOOST_AUTO_TEST_CASE(unhealthy_outweighs_degraded_whatever_the_order) {
  auto a = make();
  report_all(a);
  a.report(report_of("model", health_status::unhealthy), now, wall);
  a.report(report_of("inference_engine", health_status::degraded), now, wall);
  BOOST_TEST((a.evaluate(now, wall).overall == health_status::unhealthy));
}

BOOST_AUTO_TEST_CASE(draining_takes_readiness_and_leaves_liveness) {
  auto a = make();
  report_all(a);
  a.drain();
  const auto s = a.evaluate(now, wall);
  BOOST_TEST(ready_status_code(s) == 503U);
  BOOST_TEST(live_status_code(s, false) == 200U);
  BOOST_TEST(health_status_code(s, {.degraded_ok = true}) == 503U);
}

BOOST_AUTO_TEST_CASE(what_cannot_heal_takes_liveness) {
  auto a = make();
  report_all(a);
  a.report(report_of("model", health_status::unhealthy, "truncated", true), now, wall);
  BOOST_TEST(live_status_code(a.evaluate(now, wall), false) == 503U);
  a.report(report_of("model"), now, wall);
  BOOST_TEST(live_status_code(a.evaluate(now, wall), false) == 200U);
  a.escalate("gave up");
  const auto s = a.evaluate(now, wall);
  BOOST_TEST(live_status_code(s, false) == 503U);
  BOOST_TEST((s.overall == health_status::unhealthy));
  BOOST_TEST(s.reason == "gave up");
}

BOOST_AUTO_TEST_CASE(three_missed_reports_make_a_component_unhealthy_and_say_so) {
  auto a = make();
  report_all(a);
  BOOST_TEST((advance(a, 3000ms).overall == health_status::healthy));
  const auto s = advance(a, 200ms);
  BOOST_TEST((s.overall == health_status::unhealthy));
  BOOST_TEST(s.components[0].message.find("no report for 3.2 s (one is due every 1.0 s)") == 0U);
}

BOOST_AUTO_TEST_CASE(a_component_that_was_silent_recovers_after_two_reports) {
  auto a = make();
  report_all(a);
  advance(a, 3200ms);
  report_all(a);
  BOOST_TEST((a.evaluate(now, wall).overall == health_status::unhealthy));
  advance(a, 1000ms);
  report_all(a);
  BOOST_TEST((a.evaluate(now, wall).overall == health_status::healthy));
}

BOOST_AUTO_TEST_CASE(a_stopped_process_gives_all_components_one_interval_of_grace) {
  auto a = make();
  report_all(a);
  a.evaluate(now, wall);
  now += 60s;  // SIGSTOP, SIGCONT: neither reports nor evaluations meanwhile
  BOOST_TEST((a.evaluate(now, wall).overall == health_status::healthy));
  BOOST_TEST((advance(a, 3200ms).overall == health_status::unhealthy));
}

BOOST_AUTO_TEST_CASE(an_aggregator_that_is_always_late_does_not_forgive_for_ever) {
  auto a = make();
  report_all(a);
  a.evaluate(now, wall);
  health_snapshot s;
  for (int i = 0; i < 5; ++i) {
    now += 1500ms;
    s = a.evaluate(now, wall);
  }
  BOOST_TEST((s.overall == health_status::unhealthy));
}

BOOST_AUTO_TEST_CASE(report_says_whether_the_status_changed) {
  auto a = make();
  BOOST_TEST(a.report(report_of("model"), now, wall));
  BOOST_TEST(!a.report(report_of("model", health_status::healthy, "other words"), now, wall));
  BOOST_TEST(a.report(report_of("model", health_status::degraded), now, wall));
}

BOOST_AUTO_TEST_CASE(request_figures_cover_the_sliding_window_only) {
  request_statistics counters;
  options.requests = [&] { return counters; };
  auto a = make();
  a.evaluate(now, wall);
  counters = {.active = 2, .total = 12, .finished = 9, .failed = 1, .seconds = 5};
  auto s = advance(a, 1000ms);
  BOOST_TEST(s.metrics.active_requests == 2U);
  BOOST_TEST(s.metrics.total_requests == 12U);
  BOOST_TEST(s.metrics.error_rate_percent == 10.0, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(s.metrics.avg_response_time_ms == 500.0, boost::test_tools::tolerance(1e-9));
  s = advance(a, 62s);
  BOOST_TEST(s.metrics.error_rate_percent == 0.0);
  BOOST_TEST(s.metrics.avg_response_time_ms == 0.0);
  BOOST_TEST(s.metrics.total_requests == 12U);
}

BOOST_AUTO_TEST_CASE(throughput_is_measured_and_falls_to_zero_when_tokens_stop) {
  auto a = make();
  a.evaluate(now, wall);
  engine_sample engine;
  health_snapshot s;
  for (int i = 0; i < 60; ++i) {  // 12 s at 100 tokens a second
    engine.generated_tokens += 20;
    a.report(engine);
    s = advance(a, 200ms);
  }
  BOOST_TEST(s.metrics.tokens_per_second == 100.0, boost::test_tools::tolerance(0.02));
  s = advance(a, 11s);
  BOOST_TEST(s.metrics.tokens_per_second == 0.0);
}

BOOST_AUTO_TEST_CASE(cpu_usage_is_a_part_of_the_usable_cpus) {
  std::chrono::nanoseconds used = 7s;
  options.cpu_time = [&] { return used; };
  options.cpu_count = 4;
  auto a = make();
  a.evaluate(now, wall);
  health_snapshot s;
  for (int i = 0; i < 30; ++i) {
    used += 400ms;  // two of four CPUs busy
    s = advance(a, 200ms);
  }
  BOOST_TEST(s.metrics.cpu_usage_percent == 50.0, boost::test_tools::tolerance(0.02));
}

BOOST_AUTO_TEST_CASE(published_liveness_changes_exactly_at_the_end_of_the_grace) {
  auto a = make();
  report_all(a);
  now = start + 4900ms;
  BOOST_TEST(a.publish(now, wall));  // the last publication before the end
  now = start + 4999ms;
  BOOST_TEST(answer(probe::live).starts_with("HTTP/1.1 503"));
  now = start + 5000ms;
  BOOST_TEST(answer(probe::live).starts_with("HTTP/1.1 200"));
}

BOOST_AUTO_TEST_CASE(a_dead_aggregator_fails_all_endpoints_two_seconds_after_its_last_word) {
  auto a = make();
  now = start + 10s;
  report_all(a);
  a.publish(now, wall);
  const auto published = now;
  now = published + 2s;
  for (auto which : {probe::health, probe::live, probe::ready, probe::metrics})
    BOOST_TEST(answer(which).starts_with("HTTP/1.1 200"));
  now = published + 2001ms;
  for (auto which : {probe::health, probe::live, probe::ready, probe::metrics}) {
    const auto text = answer(which);
    BOOST_TEST(text.starts_with("HTTP/1.1 503"));
    BOOST_TEST(text.find("aggregator stuck: the last snapshot is 2001 ms old") != std::string::npos);
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(thresholds)

BOOST_AUTO_TEST_CASE(hysteresis_sets_at_the_upper_and_clears_below_the_lower_edge) {
  hysteresis h(80, 77);
  BOOST_TEST(!h.update(79.999));
  BOOST_TEST(h.update(80));
  BOOST_TEST(h.update(77));
  BOOST_TEST(!h.update(76.999));
  BOOST_TEST(!h.update(79));
}

BOOST_AUTO_TEST_CASE(hysteresis_ignores_nan) {
  hysteresis h(80, 77);
  h.update(90);
  BOOST_TEST(h.update(std::numeric_limits<double>::quiet_NaN()));
}

BOOST_AUTO_TEST_CASE(restarts_are_delayed_more_and_more_and_end_at_the_limit) {
  restart_policy policy({.max_restarts = 3, .period = 60s, .min_delay = 200ms, .max_delay = 30000ms});
  const steady_time t{100s};
  const auto first = policy.on_failure(t);
  const auto second = policy.on_failure(t + 1s);
  const auto third = policy.on_failure(t + 2s);
  BOOST_REQUIRE((first && second && third));
  BOOST_TEST((*first >= 200ms && *first <= 300ms));
  BOOST_TEST((*second >= 400ms && *second <= 600ms));
  BOOST_TEST((*third >= 800ms && *third <= 1200ms));
  BOOST_TEST(!policy.on_failure(t + 3s));
}

BOOST_AUTO_TEST_CASE(failures_older_than_the_period_are_forgotten) {
  restart_policy policy({.max_restarts = 1, .period = 60s, .min_delay = 200ms, .max_delay = 30000ms});
  const steady_time t{100s};
  BOOST_TEST(policy.on_failure(t).has_value());
  const auto later = policy.on_failure(t + 61s);
  BOOST_REQUIRE(later);
  BOOST_TEST((*later <= 300ms));
  BOOST_TEST(!policy.on_failure(t + 62s));
}

BOOST_AUTO_TEST_CASE(restart_delays_never_exceed_the_maximum) {
  restart_policy policy({.max_restarts = 100, .period = 3600s, .min_delay = 200ms, .max_delay = 30000ms});
  for (int i = 0; i < 100; ++i) {
    const auto delay = policy.on_failure(steady_time{100s});
    BOOST_REQUIRE(delay);
    BOOST_TEST((*delay >= 200ms && *delay <= 30000ms));
  }
}

BOOST_AUTO_TEST_SUITE_END()
