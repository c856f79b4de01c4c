#include "actors/memory_supervisor.hpp"
#include "tests/unit/actors/supervisors_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

using namespace bitnet;
using namespace bitnet::actors;
using namespace bitnet::tests;
using namespace std::chrono_literals;

namespace {

struct memory_fixture : aggregator_fixture {
  std::optional<memory_sample> measured = memory_sample{1, 50, 100, true};
  double pressure = 0;

  void start() {
    memory_supervisor_options o;
    o.aggregator = health;
    o.measure = [this] { return measured; };
    o.measure_pressure = [this] { return pressure; };
    keep(system.spawn(memory_supervisor, std::move(o)));
    settle();
  }
  health_status at(std::uint64_t percent) {
    measured = memory_sample{1, percent, 100, true};
    advance(1s);
    return component("memory").status;
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(aggregator_rules, engine_fixture)

BOOST_AUTO_TEST_CASE(server_becomes_ready_when_all_components_are) {
  start();
  BOOST_TEST(!ok(probe::ready));
  report_memory();
  BOOST_TEST(ok(probe::ready), get(probe::ready));
  BOOST_TEST(ok(probe::health));
}

BOOST_AUTO_TEST_CASE(liveness_fails_during_the_first_five_seconds_only) {
  start();
  report_memory();
  BOOST_TEST(!ok(probe::live));
  advance(3900ms);
  BOOST_TEST(!ok(probe::live));
  advance(100ms);
  BOOST_TEST(ok(probe::live));
}

BOOST_AUTO_TEST_CASE(snapshot_is_never_older_than_a_quarter_second_while_the_aggregator_runs) {
  start();
  report_memory();
  for (int i = 0; i < 100; ++i) {
    advance(50ms);
    BOOST_TEST(get(probe::metrics).find("# stale") == std::string::npos);
  }
  const auto uptime = judged->evaluate(now(), {}).uptime;
  const auto text = get(probe::metrics);
  const auto at = text.find("\nbitnet_uptime_seconds ");
  BOOST_REQUIRE(at != std::string::npos);
  const auto shown = std::stod(text.substr(at + 23));
  BOOST_TEST(std::chrono::duration<double>(uptime).count() - shown <= 0.25);
}

BOOST_AUTO_TEST_CASE(an_aggregator_that_ended_fails_every_probe_within_two_seconds) {
  start();
  report_memory();
  advance(6s);
  BOOST_TEST(ok(probe::live));
  end(caf::actor_cast<caf::actor>(health));
  advance(2300ms);
  for (auto which : {probe::health, probe::live, probe::ready, probe::metrics}) BOOST_TEST(!ok(which));
}

BOOST_AUTO_TEST_CASE(draining_takes_readiness_at_once_and_keeps_liveness) {
  start();
  report_memory();
  advance(6s);
  BOOST_TEST(request<bool>(health, drain_atom_v).value.value());
  BOOST_TEST(!ok(probe::ready));
  BOOST_TEST(!ok(probe::health));
  BOOST_TEST(ok(probe::live));
}

BOOST_AUTO_TEST_CASE(a_supervisor_that_ended_shows_as_missed_reports) {
  start();
  report_memory();
  BOOST_TEST(ok(probe::ready));
  end(caf::actor_cast<caf::actor>(model));
  advance(3500ms);
  BOOST_TEST(!ok(probe::ready));
  BOOST_TEST(component("model").message.find("no report for") == 0U);
}

BOOST_AUTO_TEST_CASE(escalation_takes_liveness) {
  start();
  advance(6s);
  BOOST_TEST(ok(probe::live));
  caf::anon_send(health, escalate_atom_v, "restarts did not help");
  settle();
  BOOST_TEST(!ok(probe::live));
  BOOST_TEST(get(probe::health).find("restarts did not help") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(the_end_of_a_watched_actor_takes_liveness_unless_it_was_asked_for) {
  start();
  advance(6s);
  auto idle = [](caf::event_based_actor*) -> caf::behavior { return {[](tick_atom) {}}; };
  const auto asked = system.spawn(idle);
  const auto crashed = system.spawn(idle);
  caf::anon_send(health, watch_atom_v, asked, "first");
  caf::anon_send(health, watch_atom_v, crashed, "second");
  settle();
  end(asked, caf::exit_reason::user_shutdown);
  BOOST_TEST(ok(probe::live));
  end(crashed);
  BOOST_TEST(!ok(probe::live));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(memory_supervisor_rules, memory_fixture)

BOOST_AUTO_TEST_CASE(thresholds_set_and_clear_with_hysteresis) {
  start();
  BOOST_TEST((at(79) == health_status::healthy));
  BOOST_TEST((at(80) == health_status::degraded));
  BOOST_TEST((at(78) == health_status::degraded));
  BOOST_TEST((at(76) == health_status::healthy));
  BOOST_TEST((at(90) == health_status::unhealthy));
  BOOST_TEST((at(88) == health_status::unhealthy));
  BOOST_TEST((at(86) == health_status::degraded));
  BOOST_TEST((at(50) == health_status::healthy));
}

BOOST_AUTO_TEST_CASE(memory_that_cannot_be_measured_is_unhealthy_not_zero) {
  start();
  measured.reset();
  advance(1s);
  BOOST_TEST(is(component("memory"), health_status::unhealthy));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(model_supervisor_rules, model_fixture)

BOOST_AUTO_TEST_CASE(a_loaded_model_is_healthy_and_handed_out) {
  start();
  BOOST_TEST(is(component("model"), health_status::healthy));
  BOOST_TEST(component("model").message == "tiny is loaded");
  BOOST_TEST(handed_out == 1);
}

BOOST_AUTO_TEST_CASE(loading_reports_its_progress_and_is_not_ready) {
  control->load_progress = 0.43F;
  std::string message;
  bool healthy = true;
  control->during_load = [&] {
    advance(1100ms);
    message = component("model").message;
    healthy = is(component("model"), health_status::healthy);
    BOOST_TEST(!component("model").cannot_heal);
  };
  start();
  BOOST_TEST(message == "loading 43 %");
  BOOST_TEST(!healthy);
}

BOOST_AUTO_TEST_CASE(a_load_without_progress_says_that_it_is_stalled) {
  std::string message;
  control->during_load = [&] {
    advance(130s);
    message = component("model").message;
  };
  start();
  BOOST_TEST(message.find("stalled for") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_missing_file_is_unready_but_live_and_loaded_when_it_appears) {
  control->load_fails = true;
  file.reset();
  start();
  BOOST_TEST(is(component("model"), health_status::unhealthy));
  BOOST_TEST(component("model").message == "not loaded: no such file");
  BOOST_TEST(!component("model").cannot_heal);
  advance(60s);
  BOOST_TEST(control->loads == 1);  // the same nothing is not tried again
  control->load_fails = false;
  file = engine::file_identity{1, 3, 1000, 6};
  advance(2s);
  BOOST_TEST(is(component("model"), health_status::healthy));
  BOOST_TEST(control->loads == 2);
}

BOOST_AUTO_TEST_CASE(a_load_that_failed_for_want_of_memory_is_tried_again_later) {
  control->load_fails = true;
  control->load_error = {engine::error_code::out_of_memory, "no memory"};
  start();
  advance(29s);
  BOOST_TEST(control->loads == 1);
  control->load_fails = false;
  advance(3s);
  BOOST_TEST(control->loads == 2);
  BOOST_TEST(is(component("model"), health_status::healthy));
}

BOOST_AUTO_TEST_CASE(an_exception_while_loading_is_a_failure_with_its_text) {
  control->during_load = [] { throw std::runtime_error("boom"); };
  start();
  BOOST_TEST(component("model").message.find("boom") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(any_change_of_the_file_degrades_within_a_second) {
  start();
  for (auto c : {engine::file_change::replaced, engine::file_change::missing, engine::file_change::truncated,
                 engine::file_change::modified}) {
    change = c;
    advance(1s);
    BOOST_TEST(is(component("model"), health_status::degraded), engine::to_string(c));
    BOOST_TEST(!component("model").cannot_heal);
  }
  change = engine::file_change::none;
  advance(1s);
  BOOST_TEST(is(component("model"), health_status::healthy));
}

BOOST_AUTO_TEST_CASE(weights_that_changed_in_memory_are_loaded_again) {
  start();
  control->corrupted = "blk.0.attn_q.weight";
  int handed_out_meanwhile = -1;
  control->during_load = [&] {
    handed_out_meanwhile = handed_out;
    control->corrupted.reset();
  };
  advance(2s);
  BOOST_TEST(control->loads == 2);
  BOOST_TEST(handed_out_meanwhile == 0);  // nobody goes on with the bad ones
  BOOST_TEST(is(component("model"), health_status::healthy), component("model").message);
}

BOOST_AUTO_TEST_CASE(weights_that_go_bad_again_and_again_take_liveness) {
  start();
  control->corrupted = "blk.0.attn_q.weight";
  advance(10s);
  BOOST_TEST(control->loads == 3);
  BOOST_TEST(component("model").cannot_heal);
  BOOST_TEST(component("model").message.find("blk.0.attn_q.weight") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(memory_trends, memory_fixture)

BOOST_AUTO_TEST_CASE(pressure_degrades_with_hysteresis_and_never_hides_a_full_memory) {
  start();
  pressure = 19;
  BOOST_TEST(is(component("memory"), health_status::healthy));
  pressure = 20;
  BOOST_TEST((at(50) == health_status::degraded));
  BOOST_TEST(component("memory").code == "memory_pressure");
  pressure = 11;
  BOOST_TEST((at(50) == health_status::degraded));
  BOOST_TEST((at(95) == health_status::unhealthy));
  BOOST_TEST(component("memory").code == "memory_limit");
  pressure = 9;
  BOOST_TEST((at(50) == health_status::healthy));
  BOOST_TEST(component("memory").code == "ok");
}

BOOST_AUTO_TEST_CASE(a_leak_degrades_before_the_limit_is_reached) {
  start();
  constexpr std::uint64_t mib = std::uint64_t{1} << 20;
  for (std::uint64_t second = 0; second < 620; ++second) {
    measured = memory_sample{second * mib, 100 * mib + second * mib, 2000 * mib, true};
    advance(1s);
  }
  BOOST_TEST(is(component("memory"), health_status::degraded), component("memory").message);
  BOOST_TEST(component("memory").code == "memory_growth");
}

BOOST_AUTO_TEST_SUITE_END()

namespace {

struct guard_fixture : virtual_time {
  std::shared_ptr<snapshot_store> store = std::make_shared<snapshot_store>([this] { return now(); });
  std::shared_ptr<aggregation> judged = std::make_shared<aggregation>(aggregation_options{}, store, now());
  aggregator_actor health;

  guard_fixture() {
    aggregator_guard_options o;
    o.aggregator.state = judged;
    health = system.spawn(aggregator_guard, std::move(o));
    settle();
  }
  void report(std::string_view name) {
    component_report r;
    r.component = name;
    r.status = health_status::healthy;
    r.period_ns = 3'600'000'000'000;
    caf::anon_send(health, r);
  }
  std::string get(probe which) {
    std::string out;
    store->append_answer(which, false, true, out);
    return out;
  }
  bool ok(probe which) { return get(which).starts_with("HTTP/1.1 200"); }
  void crash() {
    caf::anon_send(health, stop_atom_v, 0.0);
    settle();
  }
  ~guard_fixture() {
    kill(caf::actor_cast<caf::actor>(health));
    settle();
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(aggregator_guard_rules, guard_fixture)

BOOST_AUTO_TEST_CASE(an_aggregator_that_ended_is_started_again_with_all_that_it_knew) {
  for (const auto* name : {"model", "memory", "inference_engine"}) report(name);
  advance(6s);
  BOOST_TEST(ok(probe::ready), get(probe::health));
  crash();
  advance(1s);
  BOOST_TEST(ok(probe::ready), get(probe::health));
  BOOST_TEST(get(probe::events).find("aggregator_restarted") != std::string::npos, get(probe::events));
  BOOST_TEST(get(probe::metrics).find("bitnet_health_events_total{code=\"aggregator_restarted\"} 1") !=
             std::string::npos);
}

BOOST_AUTO_TEST_CASE(an_aggregator_that_keeps_ending_takes_all_probes) {
  for (const auto* name : {"model", "memory", "inference_engine"}) report(name);
  advance(6s);
  for (int i = 0; i < 6; ++i) {
    crash();
    advance(9s);
  }
  for (const auto which : {probe::health, probe::live, probe::ready}) {
    BOOST_TEST(!ok(which));
    BOOST_TEST(get(which).find("aggregator stuck") != std::string::npos, get(which));
  }
}

BOOST_AUTO_TEST_CASE(a_restarted_aggregator_still_watches_the_root_supervisor_and_still_drains) {
  for (const auto* name : {"model", "memory", "inference_engine"}) report(name);
  advance(6s);
  const auto root = system.spawn([](caf::event_based_actor*) -> caf::behavior { return {[](int) {}}; });
  caf::anon_send(health, watch_atom_v, root, "root supervisor");
  BOOST_TEST(request<bool>(health, drain_atom_v).value.value());
  crash();
  advance(1s);
  BOOST_TEST(!ok(probe::ready));
  BOOST_TEST(ok(probe::live));
  kill(root);
  settle();
  BOOST_TEST(!ok(probe::live));
  BOOST_TEST(get(probe::ready).find("root supervisor ended") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(engine_supervisor_rules, engine_fixture)

BOOST_AUTO_TEST_CASE(requests_flow_once_the_model_is_loaded) {
  start();
  BOOST_TEST(is(engine_health(), health_status::healthy), engine_health().message);
  const auto [sink, frames] = make_sink();
  BOOST_TEST(route(1, sink).value.has_value());
  BOOST_TEST(frames->size() == 3U);
}

BOOST_AUTO_TEST_CASE(without_a_model_the_engine_waits) {
  control->load_fails = true;
  start();
  BOOST_TEST(engine_health().message == "waiting for the model");
  BOOST_TEST(control->created == 0);
}

BOOST_AUTO_TEST_CASE(a_dead_worker_is_replaced_with_the_next_incarnation) {
  start();
  report_memory();
  const auto [sink, frames] = make_sink();
  control->step_throws = true;
  route(1, sink);
  advance(100ms);
  BOOST_REQUIRE(frames->size() == 1U);
  BOOST_TEST((frames->back().error == error_code::worker_lost));
  BOOST_TEST(!ok(probe::ready));
  BOOST_TEST(engine_health().message.find("restarting the worker") == 0U);
  control->step_throws = false;
  advance(1s);
  BOOST_TEST(ok(probe::ready), get(probe::health));
  const auto again = route(2, sink);
  BOOST_REQUIRE(again.value);
  BOOST_TEST(again.value->incarnation == 2U);
  BOOST_TEST(get(probe::metrics).find("bitnet_worker_restarts_total 1") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(work_counters_survive_a_restart) {
  start();
  const auto [sink, frames] = make_sink();
  route(1, sink);
  advance(1s);
  control->step_throws = true;
  route(2, sink);
  control->step_throws = false;
  advance(1s);
  route(3, sink);
  advance(1s);
  BOOST_TEST(get(probe::metrics).find("bitnet_generation_tokens_total 6") != std::string::npos,
             get(probe::metrics));
}

BOOST_AUTO_TEST_CASE(counters_and_incarnations_survive_a_restart_of_the_supervisor) {
  start();
  const auto [sink, frames] = make_sink();
  route(1, sink);
  advance(1s);
  BOOST_TEST(get(probe::metrics).find("bitnet_generation_tokens_total 3") != std::string::npos);
  end(caf::actor_cast<caf::actor>(engine));
  start_engine();
  BOOST_TEST(get(probe::metrics).find("bitnet_generation_tokens_total 3") != std::string::npos,
             get(probe::metrics));
  const auto again = route(2, sink);
  BOOST_REQUIRE(again.value);
  BOOST_TEST(again.value->incarnation == 2U);
  advance(1s);
  BOOST_TEST(get(probe::metrics).find("bitnet_generation_tokens_total 6") != std::string::npos,
             get(probe::metrics));
  BOOST_TEST(judged->evaluate(now(), {}).metrics.tokens_per_second < 10.0);
}

BOOST_AUTO_TEST_CASE(a_worker_that_keeps_dying_takes_liveness) {
  start();
  advance(6s);
  control->step_throws = true;
  const auto [sink, frames] = make_sink();
  for (int i = 0; i < 6; ++i) {
    BOOST_TEST(ok(probe::live));
    route(1, sink);
    advance(7s);
  }
  BOOST_TEST(!ok(probe::live));
  BOOST_TEST(engine_health().message.find("failed 6 times within 60 s") != std::string::npos,
             engine_health().message);
}

BOOST_AUTO_TEST_CASE(an_engine_that_dies_while_it_is_built_is_tried_again_soon_and_given_up_in_the_end) {
  start();
  report_memory();
  advance(6s);
  control->dies_at_start = control->step_throws = true;
  const auto [sink, frames] = make_sink();
  route(1, sink);
  advance(100ms);
  BOOST_TEST(engine_health().code == "restarting");
  control->dies_at_start = control->step_throws = false;
  advance(1s);
  BOOST_TEST(ok(probe::ready), get(probe::health));
  control->dies_at_start = control->step_throws = true;
  route(1, sink);
  advance(60s);
  BOOST_TEST(engine_health().code == "gave_up");
  BOOST_TEST(!ok(probe::live));
  BOOST_TEST(get(probe::health).find("was killed by signal 11") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_hung_pass_is_seen_cancelled_and_its_worker_replaced) {
  start();
  report_memory();
  advance(6s);
  const auto [sink, frames] = make_sink();
  bool ready_soon = true, live = false, hung = false;
  control->during_step = [&] {
    if (hung) return;
    hung = true;
    advance(1500ms);  // the pass does not return; the rest of the server goes on
    ready_soon = ok(probe::ready);
    advance(1500ms);
    BOOST_TEST(engine_health().message.find("hung") == 0U);
    BOOST_TEST(!ok(probe::ready));
    live = ok(probe::live);
    const auto [other, other_frames] = make_sink();
    BOOST_TEST((describe(route(2, other).error).code == error_code::no_worker));
    advance(8s);
    BOOST_TEST(control->created == 1);  // no twin beside the hung one
  };
  route(1, sink, 1000);
  BOOST_TEST(hung);
  BOOST_TEST(ready_soon);
  BOOST_TEST(live);
  advance(2s);
  BOOST_REQUIRE(!frames->empty());
  BOOST_TEST((frames->back().error == error_code::worker_lost));
  BOOST_TEST(ok(probe::ready), get(probe::health));
  BOOST_TEST(control->created == 2);
}

BOOST_AUTO_TEST_CASE(a_pass_that_hangs_for_a_minute_takes_liveness) {
  start();
  report_memory();
  advance(6s);
  const auto [sink, frames] = make_sink();
  bool live_before = false, live_after = true, hung = false;
  control->during_step = [&] {
    if (hung) return;
    hung = true;
    advance(59s);
    live_before = ok(probe::live);
    advance(2s);
    live_after = ok(probe::live);
    BOOST_TEST(control->created == 1);  // no twin beside the hung one
  };
  route(1, sink);
  BOOST_TEST(live_before);
  BOOST_TEST(!live_after);
}

BOOST_AUTO_TEST_CASE(wrong_results_take_the_worker_out_and_reload_the_weights) {
  start();
  report_memory();
  control->hash = 0x9999;
  bool ready_meanwhile = true;
  control->during_load = [&] {
    settle();  // the report is on its way
    ready_meanwhile = ok(probe::ready);
    control->hash = 0x1234;
  };
  advance(12s);
  BOOST_TEST(control->loads == 2);
  BOOST_TEST(!ready_meanwhile);
  BOOST_TEST(is(engine_health(), health_status::healthy), engine_health().message);
}

BOOST_AUTO_TEST_CASE(an_engine_whose_weights_are_found_bad_before_it_begins_has_them_loaded_again) {
  own_weights = true;
  start();
  report_memory();
  control->hash = 0x9999;
  control->during_load = [&] {
    control->hash = 0x1234;
    control->dies_at_start = false;
  };
  advance(8s);
  BOOST_TEST(ledger->slots[0].places[0].incarnation == 1U);
  control->dies_at_start = true;  // as the loader refuses, having checked the weights that engines come from
  advance(5s);
  BOOST_TEST(control->loads == 2);
  BOOST_TEST(is(engine_health(), health_status::healthy), engine_health().message);
}

BOOST_AUTO_TEST_CASE(wrong_results_of_fresh_weights_take_liveness) {
  start();
  report_memory();
  advance(6s);
  control->hash = 0x9999;
  advance(20s);
  BOOST_TEST(!ok(probe::ready));
  BOOST_TEST(!ok(probe::live));
  BOOST_TEST(control->loads == 3);
  BOOST_TEST(component("model").message.find("the weights give wrong results") == 0U);
}

BOOST_AUTO_TEST_CASE(a_failing_canary_takes_the_worker_out) {
  start();
  report_memory();
  control->probe_fails = true;
  advance(11s);
  BOOST_TEST(!ok(probe::ready));
  const auto [sink, frames] = make_sink();
  BOOST_TEST((describe(route(1, sink).error).code == error_code::no_worker));
  control->probe_fails = false;
  advance(11s);
  BOOST_TEST(ok(probe::ready));
  BOOST_TEST(route(2, sink).value.has_value());
}

BOOST_AUTO_TEST_CASE(an_engine_that_cannot_be_built_is_tried_again_and_never_takes_liveness) {
  control->create_fails = true;
  start();
  BOOST_TEST(engine_health().message == "the engine did not start: The KV cache does not fit.");
  advance(300s);
  BOOST_TEST(ok(probe::live));
  control->create_fails = false;
  advance(31s);
  BOOST_TEST(is(engine_health(), health_status::healthy), engine_health().message);
}

BOOST_AUTO_TEST_CASE(corrupted_weights_stop_the_worker_until_they_are_loaded_again) {
  start();
  control->corrupted = "output.weight";
  bool refused = false;
  control->during_load = [&] {
    control->corrupted.reset();
    advance(1s);
    const auto [sink, frames] = make_sink();
    refused = describe(route(1, sink).error).code == error_code::no_worker;
    BOOST_TEST(engine_health().message.find("stopped: the weights output.weight changed") == 0U);
    BOOST_TEST(control->destroyed == 1);
  };
  advance(3s);
  BOOST_TEST(refused);
  const auto [sink, frames] = make_sink();
  BOOST_TEST(route(2, sink).value.has_value());
}

BOOST_AUTO_TEST_CASE(a_full_queue_takes_readiness_until_it_drains) {
  start();
  report_memory();
  const auto [sink, frames] = make_sink();
  bool full_ready = true;
  int steps = 0;
  control->delivers = false;
  control->during_step = [&] {
    // A step after all have come: the worker tells its load at the end of each.
    if (control->submitted == 4 && ++steps == 2) {
      advance(600ms);
      full_ready = ok(probe::ready);
      control->delivers = true;
    }
  };
  for (engine::request_id id = 1; id <= 4; ++id)
    caf::anon_send(requests, submit_atom_v, std::uint64_t{0}, request_of(id), std::uint32_t{1}, sink);
  settle();
  BOOST_TEST(!full_ready);
  advance(600ms);
  BOOST_TEST(ok(probe::ready));
}

BOOST_AUTO_TEST_CASE(the_end_of_the_router_takes_liveness) {
  start();
  advance(6s);
  end(caf::actor_cast<caf::actor>(requests));
  BOOST_TEST(!ok(probe::live));
}

BOOST_AUTO_TEST_CASE(the_supervisor_ends_after_its_worker) {
  start();
  end(caf::actor_cast<caf::actor>(engine), caf::exit_reason::user_shutdown);
  BOOST_TEST(control->destroyed == 1);
}

BOOST_AUTO_TEST_SUITE_END()
