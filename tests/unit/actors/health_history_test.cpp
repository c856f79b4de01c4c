#include "actors/health_history.hpp"

#include "actors/aggregation.hpp"
#include "actors/metrics_render.hpp"

#include <boost/json.hpp>
#include <boost/test/unit_test.hpp>

#include <string>

using namespace bitnet::actors;
using namespace std::chrono_literals;
namespace json = boost::json;

namespace {

health_snapshot snapshot_with(health_status status, std::string code, std::string message = "why") {
  health_snapshot s;
  component_health c;
  c.name = "memory";
  c.status = status;
  c.code = std::move(code);
  c.message = std::move(message);
  s.components.push_back(c);
  s.overall = status;
  s.timestamp = wall_time(1772323199999ms);
  s.uptime = 61500ms;
  return s;
}

std::string body(const snapshot_store& store, probe which) {
  std::string out;
  store.append_answer(which, false, true, out);
  return out.substr(out.find("\r\n\r\n") + 4);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(health_history_rules)

BOOST_AUTO_TEST_CASE(only_changes_of_status_or_code_are_events) {
  health_history h;
  h.observe(snapshot_with(health_status::healthy, "ok"));
  BOOST_TEST(h.events().size() == 2U);  // the component and the server
  BOOST_TEST(h.observe(snapshot_with(health_status::healthy, "ok", "other words")).empty());
  const auto events = h.observe(snapshot_with(health_status::degraded, "memory_high", "85 %"));
  BOOST_REQUIRE(events.size() == 2U);
  BOOST_TEST(events[0].component == "memory");
  BOOST_TEST((events[0].from == health_status::healthy));
  BOOST_TEST((events[0].status == health_status::degraded));
  BOOST_TEST(events[0].code == "memory_high");
  BOOST_TEST(events[0].message == "85 %");
  BOOST_TEST(events[0].sequence == 3U);
  BOOST_TEST(events[1].component == "server");
  BOOST_TEST(h.observe(snapshot_with(health_status::degraded, "memory_pressure")).size() == 1U);
}

BOOST_AUTO_TEST_CASE(the_ring_keeps_the_last_events_and_counts_the_others) {
  health_history h(10);
  for (int i = 0; i < 100; ++i)
    h.observe(snapshot_with(i % 2 == 0 ? health_status::healthy : health_status::unhealthy, "x"));
  BOOST_TEST(h.events().size() == 10U);
  BOOST_TEST(h.events().back().sequence == 200U);
  BOOST_TEST(h.dropped() == 190U);
  BOOST_TEST((h.transitions().at({"memory", health_status::unhealthy}) == 50U));
  BOOST_TEST(json::parse(h.json()).as_array().size() == 10U);
}

BOOST_AUTO_TEST_CASE(events_are_rendered_with_their_reasons) {
  health_history h;
  const auto s = snapshot_with(health_status::degraded, "memory_high", "a \"quoted\" reason");
  h.observe(s);
  health_event note;
  note.component = "inference_engine";
  note.code = "worker_restarted";
  note.message = "worker 0.2 started";
  h.note(note, s);
  const auto all = json::parse(h.json()).as_array();
  const auto& first = all.front().as_object();
  BOOST_TEST(first.at("event") == "transition");
  BOOST_TEST(first.at("from") == "unhealthy");
  BOOST_TEST(first.at("status") == "degraded");
  BOOST_TEST(first.at("message") == "a \"quoted\" reason");
  BOOST_TEST(first.at("timestamp") == "2026-02-28T23:59:59.999Z");
  BOOST_TEST(first.at("uptime_ms") == 61500);
  const auto& last = all.back().as_object();
  BOOST_TEST(last.at("event") == "note");
  BOOST_TEST(!last.contains("from"));
  BOOST_TEST(last.at("code") == "worker_restarted");
}

BOOST_AUTO_TEST_CASE(snapshots_carry_the_history_and_metrics_count_it) {
  const auto store = std::make_shared<snapshot_store>([] { return steady_time{}; });
  std::vector<std::string> logged;
  aggregation_options options;
  options.on_event = [&](const health_event& e) { logged.push_back(e.component + " " + e.code); };
  aggregation a(options, store, steady_time{});
  a.publish(steady_time{}, {});
  a.note({"server", "clock_jump", "by 5 s"});
  component_report r;
  r.component = "memory";
  r.status = health_status::degraded;
  r.code = "memory_high";
  r.message = "81 %";
  r.period_ns = 1'000'000'000;
  BOOST_TEST(a.report(r, steady_time{}, {}));
  BOOST_TEST(!a.report(r, steady_time{}, {}));
  a.publish(steady_time{}, {});
  BOOST_TEST(
      (logged == std::vector<std::string>{"model starting", "memory starting", "inference_engine starting",
                                          "server component", "memory memory_high", "server clock_jump"}));
  const auto health = json::parse(body(*store, probe::health)).as_object();
  BOOST_TEST(health.at("components").at("memory").at("code") == "memory_high");
  BOOST_TEST(!health.contains("events"));
  const auto history = json::parse(body(*store, probe::history)).as_object();
  BOOST_TEST(history.at("events").as_array().size() == 6U);
  for (const auto& [key, value] : health) BOOST_TEST(history.contains(key));
  const auto events = json::parse(body(*store, probe::events)).as_object();
  BOOST_TEST(events.at("events") == history.at("events"));
  BOOST_TEST(events.at("events_dropped") == 0);
  const auto metrics = body(*store, probe::metrics);
  BOOST_TEST(metrics.find(R"(bitnet_health_transitions_total{component="memory",to="degraded"} 1)") !=
             std::string::npos);
  BOOST_TEST(metrics.find(R"(bitnet_health_events_total{code="clock_jump"} 1)") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
