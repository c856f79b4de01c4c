#include "actors/health_render.hpp"
#include "actors/metrics_render.hpp"
#include "actors/time_format.hpp"

#include <boost/json.hpp>
#include <boost/test/unit_test.hpp>

#include <charconv>
#include <chrono>
#include <set>
#include <sstream>
#include <string>

using namespace bitnet::actors;
using namespace std::chrono_literals;
namespace json = boost::json;

namespace {

health_snapshot sample_snapshot() {
  health_snapshot s;
  s.overall = health_status::healthy;
  for (const auto* name : {"model", "memory", "inference_engine"}) {
    component_health c;
    c.name = name;
    c.status = health_status::healthy;
    c.message = "a \"quoted\"\nmessage";
    c.last_check = wall_time(1772323199999ms);
    c.response_time = 2'345'678ns;
    s.components.push_back(c);
  }
  s.build.version = "0.1.0";
  s.kind = {"cpu", "avx2", "screened"};
  s.build.compiler_version = "g++ 12.2.0";
  s.build.target = "x86_64-linux-gnu";
  s.build.profile = "Release";
  s.metrics.memory_usage_mb = 12.5;
  s.requests = {.active = 1, .total = 7, .finished = 5, .failed = 1, .seconds = 2};
  s.engine.generated_tokens = 1234;
  s.engine.kv_blocks_used = 1;
  s.engine.kv_blocks_total = 4;
  s.timestamp = wall_time(1772323199999ms);
  s.uptime = 3661s;
  return s;
}

std::set<std::string> keys(const json::value& v) {
  std::set<std::string> result;
  for (const auto& [key, value] : v.as_object()) result.emplace(key);
  return result;
}

bool has_all(const std::set<std::string>& have, const std::set<std::string>& want) {
  return std::includes(have.begin(), have.end(), want.begin(), want.end());
}

/// The value of a header field of an answer, "" where absent.
std::string field(const std::string& header, const std::string& name) {
  const auto at = header.find("\r\n" + name + ": ");
  if (at == std::string::npos) return "";
  const auto begin = at + name.size() + 4;
  return header.substr(begin, header.find("\r\n", begin) - begin);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(rendering)

BOOST_AUTO_TEST_CASE(times_follow_rfc_3339_and_rfc_9110) {
  const wall_time t(784111777000ms);
  BOOST_TEST(format_http_date(t) == "Sun, 06 Nov 1994 08:49:37 GMT");
  BOOST_TEST(format_rfc3339(t) == "1994-11-06T08:49:37.000Z");
  BOOST_TEST(format_rfc3339(wall_time(1772323199999ms)) == "2026-02-28T23:59:59.999Z");
  BOOST_TEST(format_rfc3339(wall_time(951782400000ms)) == "2000-02-29T00:00:00.000Z");
}

BOOST_AUTO_TEST_CASE(health_has_every_key_of_the_schema) {
  const auto v = json::parse(render_health_json(sample_snapshot()));
  BOOST_TEST(has_all(keys(v),
                     {"status", "timestamp", "uptime_seconds", "version", "build", "components", "metrics"}));
  BOOST_TEST(has_all(keys(v.at("build")),
                     {"version", "git_sha", "git_branch", "build_timestamp", "rustc_version", "cargo_target",
                      "cargo_profile", "compiler_version", "target", "profile"}));
  BOOST_TEST((keys(v.at("components")) == std::set<std::string>{"model", "memory", "inference_engine"}));
  BOOST_TEST(
      has_all(keys(v.at("components").at("model")), {"status", "message", "last_check", "response_time_ms"}));
  BOOST_TEST(has_all(keys(v.at("metrics")),
                     {"active_requests", "total_requests", "error_rate_percent", "avg_response_time_ms",
                      "memory_usage_mb", "tokens_per_second", "cpu_usage_percent"}));
}

BOOST_AUTO_TEST_CASE(health_values_have_the_types_of_the_schema) {
  const auto v = json::parse(render_health_json(sample_snapshot()));
  BOOST_TEST(v.at("status").as_string() == "healthy");
  BOOST_TEST(v.at("timestamp").as_string() == "2026-02-28T23:59:59.999Z");
  BOOST_TEST(v.at("uptime_seconds").to_number<std::uint64_t>() == 3661U);
  BOOST_TEST(v.at("uptime_seconds").is_int64());
  const auto& model = v.at("components").at("model");
  BOOST_TEST(model.at("message").as_string() == "a \"quoted\"\nmessage");
  BOOST_TEST(model.at("response_time_ms").as_int64() == 2);
  BOOST_TEST(model.at("response_time_us").as_int64() == 2345);
  BOOST_TEST(v.at("metrics").at("memory_usage_mb").as_double() == 12.5);
  BOOST_TEST(v.at("build").at("rustc_version").as_string() == "g++ 12.2.0");
  BOOST_TEST(v.at("build").at("cargo_profile").as_string() == "Release");
  BOOST_TEST(v.at("engine").at("device").as_string() == "cpu");
  BOOST_TEST(v.at("engine").at("kernels").as_string() == "avx2");
  BOOST_TEST(v.at("engine").at("lm_head").as_string() == "screened");
}

BOOST_AUTO_TEST_CASE(messages_that_are_no_utf8_leave_the_answer_one_that_every_parser_takes) {
  auto snapshot = sample_snapshot();
  snapshot.components[0].message = "the file /models/\xff\xc3\xa4.gguf is gone \xe2\x82";
  const auto v = json::parse(render_health_json(snapshot));
  BOOST_TEST(v.at("components").at("model").at("message").as_string() ==
             "the file /models/\xEF\xBF\xBD\xc3\xa4.gguf is gone \xEF\xBF\xBD");
}

BOOST_AUTO_TEST_CASE(cuda_version_appears_with_cuda_only) {
  auto s = sample_snapshot();
  BOOST_TEST(!json::parse(render_health_json(s)).at("build").as_object().contains("cuda_version"));
  s.build.cuda_version = "12.4";
  BOOST_TEST(json::parse(render_health_json(s)).at("build").at("cuda_version").as_string() == "12.4");
}

BOOST_AUTO_TEST_CASE(every_answer_has_its_headers_and_the_length_of_its_body) {
  const auto r = render(sample_snapshot(), {}, "metrics text\n", health_history{});
  for (const auto& a : r->answers) {
    for (const auto* header : {&a.header_keep_alive, &a.header_close}) {
      BOOST_TEST(header->starts_with("HTTP/1.1 200 OK\r\n"));
      BOOST_TEST(header->ends_with("\r\n\r\n"));
      BOOST_TEST(field(*header, "Cache-Control") == "no-store");
      BOOST_TEST(field(*header, "Date") == "Sat, 28 Feb 2026 23:59:59 GMT");
      BOOST_TEST(field(*header, "Content-Length") == std::to_string(a.body.size()));
    }
    // HTTP/1.1 keeps a connection where nothing else is said (RFC 9112, 9.3).
    BOOST_TEST(field(a.header_keep_alive, "Connection") == "");
    BOOST_TEST(field(a.header_close, "Connection") == "close");
  }
  for (auto which : {probe::health, probe::live, probe::ready})
    BOOST_TEST(field(r->answers[static_cast<std::size_t>(which)].header_close, "Content-Type") ==
               "application/json");
}

BOOST_AUTO_TEST_CASE(live_answers_status_and_timestamp_only) {
  const auto r = render(sample_snapshot(), {}, "", health_history{});
  const auto v = json::parse(r->answers[static_cast<std::size_t>(probe::live)].body);
  BOOST_TEST((keys(v) == std::set<std::string>{"status", "timestamp"}));
  BOOST_TEST(v.at("status").as_string() == "healthy");
  const auto grace = json::parse(r->live_in_grace.body);
  BOOST_TEST(grace.at("status").as_string() == "degraded");
  BOOST_TEST(r->live_in_grace.header_close.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
}

BOOST_AUTO_TEST_CASE(status_codes_of_every_state) {
  struct row {
    health_status overall;
    bool draining, cannot_heal, degraded_ok;
    unsigned health, live, ready;
  };
  const row rows[] = {
      {health_status::healthy, false, false, false, 200, 200, 200},
      {health_status::degraded, false, false, false, 503, 200, 503},
      {health_status::degraded, false, false, true, 200, 200, 503},
      {health_status::unhealthy, false, false, true, 503, 200, 503},
      {health_status::unhealthy, true, false, false, 503, 200, 503},
      {health_status::healthy, true, false, false, 200, 200, 503},
      {health_status::unhealthy, false, true, true, 503, 503, 503},
  };
  for (const auto& row : rows) {
    auto s = sample_snapshot();
    s.overall = row.overall;
    s.draining = row.draining;
    s.cannot_heal = row.cannot_heal;
    BOOST_TEST(health_status_code(s, {.degraded_ok = row.degraded_ok}) == row.health);
    BOOST_TEST(live_status_code(s, false) == row.live);
    BOOST_TEST(live_status_code(s, true) == 503U);
    BOOST_TEST(ready_status_code(s) == row.ready);
  }
}

BOOST_AUTO_TEST_CASE(stale_answers_are_503_with_valid_bodies) {
  for (auto which : {probe::health, probe::live, probe::ready}) {
    const auto a = render_stale(which, 2500ms, wall_time(1772323199999ms));
    BOOST_TEST(a.header_close.starts_with("HTTP/1.1 503"));
    BOOST_TEST(field(a.header_close, "Content-Length") == std::to_string(a.body.size()));
    BOOST_TEST(json::parse(a.body).at("reason").as_string() ==
               "aggregator stuck: the last snapshot is 2500 ms old");
  }
  const auto m = render_stale(probe::metrics, 2500ms, wall_time(1772323199999ms));
  BOOST_TEST(m.body.starts_with("# stale: "));
}

BOOST_AUTO_TEST_CASE(metrics_are_valid_prometheus_text) {
  std::istringstream text(render_metrics_text(sample_snapshot()));
  std::set<std::string> typed;
  std::set<std::string> samples;
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with("# TYPE ")) {
      std::istringstream words(line.substr(7));
      std::string name;
      words >> name;
      BOOST_TEST(typed.insert(name).second, name << " is declared twice");
    } else if (!line.starts_with("#")) {
      const auto name = line.substr(0, line.find_first_of("{ "));
      BOOST_TEST(typed.contains(name), name);
      BOOST_TEST(name.starts_with("bitnet_"), name);
      const auto value = line.substr(line.rfind(' ') + 1);
      double number = 0;
      BOOST_TEST((std::from_chars(value.data(), value.data() + value.size(), number).ec == std::errc{}),
                 line);
      BOOST_TEST(samples.insert(line.substr(0, line.rfind(' '))).second, line << " is there twice");
    }
  }
  BOOST_TEST(samples.contains("bitnet_component_status{component=\"model\",status=\"healthy\"}"));
}

BOOST_AUTO_TEST_CASE(metrics_carry_the_figures_of_the_snapshot) {
  const auto text = render_metrics_text(sample_snapshot());
  for (const auto* line :
       {"bitnet_requests_total 7\n", "bitnet_generation_tokens_total 1234\n",
        "bitnet_kv_cache_usage_perc 0.25\n", "bitnet_uptime_seconds 3661\n", "bitnet_ready 1\n"})
    BOOST_TEST(text.find(line) != std::string::npos, line);
}

BOOST_AUTO_TEST_SUITE_END()
