#include "apps/bitnet_console/render.hpp"

#include <boost/json/parse.hpp>
#include <boost/test/unit_test.hpp>

#include <string>

using namespace bitnet::console;
namespace json = boost::json;

namespace {

std::string render(const std::string& answer, std::size_t width = 0) {
  return render_result(json::parse(answer).as_object(), width);
}

/// Two actors: one idle, one hung.
const std::string actors = R"({"id": 7, "name": "router", "depth": 0, "rate": 12.5, "wait_p99_ms": 0.32,
    "busy_percent": 0.4, "now": "", "running_ms": 0, "restarts": 0, "last_error": "", "level": 0},
  {"id": 12, "name": "worker", "depth": 431, "rate": 0, "wait_p99_ms": 81250, "busy_percent": 100,
    "now": "step", "running_ms": 81250.5, "restarts": 2, "last_error": "runtime_error", "level": 1})";

}  // namespace

BOOST_AUTO_TEST_SUITE(console_render)

BOOST_AUTO_TEST_CASE(the_header_fits_on_a_line) {
  BOOST_TEST(
      render_header(json::parse(R"({"name": "gpu-3:8080", "state": "healthy", "uptime_seconds": 8130,
      "cpu_percent": 12.34, "rss_mb": 412.4, "kv_percent": 3.1, "tokens_per_second": 45.14,
      "active_requests": 2, "suspects": 0})")
                        .as_object()) ==
      "gpu-3:8080  HEALTHY  up 2h15m  cpu 12.3 %  rss 412 MB  kv 3.1 %  45.1 tok/s  2 active  suspects 0\n");
  BOOST_TEST(
      render_header(json::parse(R"({"name": "a:1", "state": "starting", "suspects": 0})").as_object()) ==
      "a:1  STARTING  suspects 0\n");
}

BOOST_AUTO_TEST_CASE(actors_are_a_table) {
  const auto text = render(R"({"command": "ps", "result": {"actors": [)" + actors + R"(], "not_shown": 0}})");
  BOOST_TEST(text ==
             "ID  NAME    DEPTH    RATE  WAIT-p99  BUSY%  NOW          RESTARTS  LAST-ERROR\n"
             " 7  router      0  12.5/s    320 us    0.4  -                   0  -\n"
             "12  worker    431   0.0/s    81.2 s  100.0  step 81.3 s         2  runtime_error\n");
}

BOOST_AUTO_TEST_CASE(a_tree_is_indented) {
  const auto text = render(R"({"command": "tree", "result": {"actors": [)" + actors + "]}}");
  BOOST_TEST(text.find(" 7  router  ") != std::string::npos, text);
  BOOST_TEST(text.find("12    worker  ") != std::string::npos, text);
}

BOOST_AUTO_TEST_CASE(lines_are_cut_at_the_width_and_never_longer) {
  const auto text = render(R"({"command": "ps", "result": {"actors": [)" + actors + "]}}", 40);
  for (std::size_t at = 0; at < text.size();) {
    const auto end = text.find('\n', at);
    BOOST_TEST(end - at <= 40U);
    at = end + 1;
  }
  BOOST_TEST(text.find(">\n") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(nothing_is_said_in_words) {
  BOOST_TEST(render(R"({"command": "hung", "result": {"hung": []}})") == "no hung\n");
  BOOST_TEST(render(R"({"command": "errors", "result": {"failures": [], "log": []}})") ==
             "failures:\n  none\n\nlog:\n  none\n");
}

BOOST_AUTO_TEST_CASE(one_thing_is_a_list_of_its_facts_with_units) {
  BOOST_TEST(render(R"({"command": "kv", "result": {"kv": {"blocks_used": 3, "used_percent": 37.5,
      "oldest_wait_ms": 2500, "first_token_ms": null, "streamed": true, "name": ""}}})") ==
             "blocks used  3\n"
             "used         37.5 %\n"
             "oldest wait  2.5 s\n"
             "first token  -\n"
             "streamed     yes\n"
             "name         -\n");
}

BOOST_AUTO_TEST_CASE(health_has_components_and_reasons) {
  BOOST_TEST(render(R"({"command": "health", "result": {"status": "degraded", "snapshot_age_ms": 120,
      "components": [{"name": "model", "status": "degraded", "message": "the file is gone"}],
      "why": ["model is degraded: the file is gone"]}})") ==
             "status        degraded\n"
             "snapshot age  120 ms\n\n"
             "COMPONENT  STATUS    MESSAGE\n"
             "model      degraded  the file is gone\n"
             "\nwhy:\n"
             "- model is degraded: the file is gone\n");
}

BOOST_AUTO_TEST_CASE(lists_that_this_console_does_not_know_become_tables) {
  BOOST_TEST(
      render(R"({"command": "new", "result": {"things": [{"name": "a", "wait_us": 1500, "n": 2}]}})") ==
      "NAME    WAIT  N\n"
      "a     1.5 ms  2\n");
}

BOOST_AUTO_TEST_CASE(what_the_server_says_cannot_move_the_cursor) {
  const auto text = render(
      R"({"command": "events", "result": {"events": [{"time": "t", "level": "info", "text": "a\u001b[2Jb\nc"}]}})");
  BOOST_TEST(text.find('\x1b') == std::string::npos);
  BOOST_TEST(text.find("a?[2Jb?c") != std::string::npos, text);
}

BOOST_AUTO_TEST_CASE(errors_and_outcomes_are_their_sentence) {
  BOOST_TEST(render(R"({"command": "x", "error": {"code": "refused", "message": "no"}})") == "no\n");
  BOOST_TEST(render(R"({"command": "x", "result": {"done": true, "message": "draining"}})") == "draining\n");
  BOOST_TEST(render(R"({"command": "x"})") == "the answer has no result\n");
}

BOOST_AUTO_TEST_CASE(durations_have_two_or_three_digits_and_a_unit) {
  BOOST_TEST(format_duration(0) == "0");
  BOOST_TEST(format_duration(0.0123) == "12 us");
  BOOST_TEST(format_duration(1.26) == "1.3 ms");
  BOOST_TEST(format_duration(345.6) == "346 ms");
  BOOST_TEST(format_duration(12'340) == "12.3 s");
  BOOST_TEST(format_duration(200'000) == "3m20s");
  BOOST_TEST(format_duration(7'500'000) == "2h05m");
  BOOST_TEST(format_duration(356'400'000) == "4d03h");
}

BOOST_AUTO_TEST_SUITE_END()
