#include "http/access_control.hpp"

#include "fake_connection.hpp"

#include <boost/test/unit_test.hpp>

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>

using namespace bitnet::http;
using namespace bitnet::http::test;
using std::chrono::seconds;

namespace {

const std::string alice = "alice-key-0123456789";
const std::string root = "root-key-0123456789abc";

access_options two_keys() {
  access_options o;
  o.keys = "alice:" + alice + ",root:" + root + ":admin";
  return o;
}

header_list bearer(const std::string& key) {
  return {{"authorization", "Bearer " + key}};
}

struct key_file {
  explicit key_file(const std::string& text) { write(text); }
  ~key_file() { std::remove(path.c_str()); }
  void write(const std::string& text) const { std::ofstream{path} << text; }
  std::string path = "/tmp/bitnet_key_file_" + std::to_string(::getpid());
};

std::string ask_models(const std::string& key, const std::string& more = "") {
  return "GET /v1/models HTTP/1.1\r\nHost: a\r\n" +
         (key.empty() ? "" : "Authorization: Bearer " + key + "\r\n") + more + "\r\n";
}

const access_control::time_point start{std::chrono::hours{1}};

}  // namespace

BOOST_AUTO_TEST_SUITE(access_rules)

BOOST_AUTO_TEST_CASE(without_keys_everybody_may_call) {
  const auto access = access_control::create({}).value();
  BOOST_TEST(!access->has_keys());
  BOOST_TEST(access->admit({}, route_access::key, start).has_value());
  BOOST_TEST(access->admit({}, route_access::admin, start).has_value());
}

BOOST_AUTO_TEST_CASE(a_known_key_is_let_in_under_its_name_and_others_are_not) {
  const auto access = access_control::create(two_keys()).value();
  BOOST_TEST(access->admit(bearer(alice), route_access::key, start)->name() == "alice");
  BOOST_TEST(access->admit({{"authorization", "bearer  " + alice}}, route_access::key, start).has_value());
  for (const auto& wrong : {bearer(alice + "x"), bearer(alice.substr(1)), bearer(""), header_list{},
                            header_list{{"authorization", alice}}})
    BOOST_TEST(access->admit(wrong, route_access::key, start).error().error.status == 401U);
}

BOOST_AUTO_TEST_CASE(an_admin_route_wants_an_admin_key) {
  const auto access = access_control::create(two_keys()).value();
  BOOST_TEST(access->admit(bearer(root), route_access::admin, start).has_value());
  BOOST_TEST(access->admit(bearer(alice), route_access::admin, start).error().error.status == 403U);
  BOOST_TEST(access->admit({}, route_access::open, start).has_value());
}

BOOST_AUTO_TEST_CASE(a_reload_takes_new_keys_and_keeps_the_old_ones_where_the_file_is_bad) {
  const key_file file{"# people\nalice " + alice + "\n\nroot " + root + " admin # the boss\n"};
  access_options o;
  o.key_file = file.path;
  const auto access = access_control::create(o).value();
  BOOST_TEST(access->admit(bearer(root), route_access::admin, start).has_value());
  file.write("bob short\n");
  const auto refused = access->reload();
  BOOST_TEST(!refused.has_value());
  BOOST_TEST(contains(refused.error(), "line 1"));
  BOOST_TEST(!contains(refused.error(), "short"));
  BOOST_TEST(access->admit(bearer(alice), route_access::key, start).has_value());
  file.write("bob bob-key-0123456789\n");
  BOOST_TEST(access->reload().has_value());
  BOOST_TEST(access->admit(bearer("bob-key-0123456789"), route_access::key, start).has_value());
  BOOST_TEST(!access->admit(bearer(alice), route_access::key, start).has_value());
  file.write("# nobody\n");
  BOOST_TEST(access->reload().has_value());
  BOOST_TEST(!access->admit({}, route_access::key, start).has_value());
}

BOOST_AUTO_TEST_CASE(bad_keys_and_origins_stop_the_start) {
  for (const auto* bad : {"alice", "alice:short", "a:0123456789abcdef:boss", ":0123456789abcdef",
                          "a:0123456789abcdef,a:0123456789abcdeg", "a:0123456789abcdef,b:0123456789abcdef"}) {
    access_options o;
    o.keys = bad;
    BOOST_TEST(!access_control::create(o).has_value(), bad);
  }
  access_options o;
  o.cors_origins = "https://a.example/";
  BOOST_TEST(!access_control::create(o).has_value());
}

BOOST_AUTO_TEST_CASE(requests_in_flight_are_limited_for_each_key) {
  auto o = two_keys();
  o.max_concurrent = 2;
  const auto access = access_control::create(o).value();
  auto first = access->admit(bearer(alice), route_access::key, start);
  const auto second = access->admit(bearer(alice), route_access::key, start);
  const auto third = access->admit(bearer(alice), route_access::key, start);
  BOOST_TEST(third.error().error.status == 429U);
  BOOST_TEST(third.error().headers.front().first == "Retry-After");
  BOOST_TEST(access->admit(bearer(root), route_access::key, start).has_value());
  *first = admission{};
  BOOST_TEST(access->admit(bearer(alice), route_access::key, start).has_value());
}

BOOST_AUTO_TEST_CASE(requests_a_minute_are_limited_for_each_key) {
  auto o = two_keys();
  o.requests_per_minute = 6;
  const auto access = access_control::create(o).value();
  for (int i = 0; i < 6; ++i) BOOST_TEST(access->admit(bearer(alice), route_access::key, start).has_value());
  const auto refused = access->admit(bearer(alice), route_access::key, start);
  BOOST_TEST(refused.error().error.status == 429U);
  BOOST_TEST(refused.error().headers.front().second == "10");
  BOOST_TEST(access->admit(bearer(root), route_access::key, start).has_value());
  BOOST_TEST(!access->admit(bearer(alice), route_access::key, start + seconds{9}).has_value());
  BOOST_TEST(access->admit(bearer(alice), route_access::key, start + seconds{10}).has_value());
  BOOST_TEST(!access->admit(bearer(alice), route_access::key, start + seconds{10}).has_value());
}

BOOST_AUTO_TEST_CASE(a_connection_asks_for_a_key_before_it_reads_the_body) {
  fake_connection c{{}, false, two_keys()};
  const auto answer =
      c.ask("POST /v1/completions HTTP/1.1\r\nHost: a\r\nx-request-id: mine\r\nContent-Length: 100\r\n\r\n");
  BOOST_TEST(status_of(answer) == 401U);
  BOOST_TEST(contains(answer, "WWW-Authenticate: Bearer"));
  BOOST_TEST(contains(answer, "authentication_error"));
  BOOST_TEST(contains(answer, "x-request-id: mine"));
  BOOST_REQUIRE(c.logged.size() == 1U);
  BOOST_TEST(c.logged[0].request_id == "mine");
}

BOOST_AUTO_TEST_CASE(probes_need_no_key) {
  fake_connection c{{}, false, two_keys()};
  BOOST_TEST(status_of(c.ask("GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")) == 200U);
  BOOST_TEST(status_of(c.ask("GET /metrics?x=y HTTP/1.1\r\nHost: a\r\n\r\n")) == 200U);
}

BOOST_AUTO_TEST_CASE(a_place_is_given_back_when_the_response_ends_or_the_client_leaves) {
  auto o = two_keys();
  o.max_concurrent = 1;
  fake_connection c{{}, false, o};
  for (int i = 0; i < 3; ++i) {
    c.send(ask_models(alice));
    c.api.take().writer->respond(200, {}, "{}");
    c.protocol->collect(c.now);
    BOOST_TEST(status_of(c.take_output()) == 200U);
  }
  c.send(ask_models(alice));
  BOOST_TEST(!c.access->admit(bearer(alice), route_access::key, c.now).has_value());
  c.protocol->abort();
  BOOST_TEST(c.access->admit(bearer(alice), route_access::key, c.now).has_value());
}

BOOST_AUTO_TEST_CASE(pages_of_allowed_origins_may_call_and_others_may_not) {
  access_options o = two_keys();
  o.cors_origins = "https://a.example, http://localhost:3000";
  fake_connection c{{}, false, o};
  const std::string preflight =
      "OPTIONS /v1/completions HTTP/1.1\r\nHost: a\r\nAccess-Control-Request-Method: POST\r\n"
      "Access-Control-Request-Headers: authorization,x-stainless-os\r\nOrigin: ";
  const auto allowed = c.ask(preflight + "http://localhost:3000\r\n\r\n");
  BOOST_TEST(status_of(allowed) == 204U);
  BOOST_TEST(contains(allowed, "Access-Control-Allow-Origin: http://localhost:3000\r\n"));
  BOOST_TEST(contains(allowed, "Access-Control-Allow-Headers: authorization,x-stainless-os\r\n"));
  const auto other = c.ask(preflight + "https://b.example\r\n\r\n");
  BOOST_TEST(status_of(other) == 405U);
  BOOST_TEST(!contains(other, "Allow-Origin"));

  c.send(ask_models(alice, "Origin: https://a.example\r\n"));
  c.api.take().writer->respond(200, {}, "{}");
  c.protocol->collect(c.now);
  const auto answer = c.take_output();
  BOOST_TEST(contains(answer, "Access-Control-Allow-Origin: https://a.example\r\n"));
  BOOST_TEST(contains(answer, "Vary: Origin\r\n"));
  // The page shall see why it was refused.
  BOOST_TEST(contains(c.ask(ask_models("", "Origin: https://a.example\r\n")), "Access-Control-Allow-Origin"));
  fake_connection none;
  BOOST_TEST(status_of(none.ask(preflight + "https://a.example\r\n\r\n")) == 405U);
}

BOOST_AUTO_TEST_SUITE_END()
