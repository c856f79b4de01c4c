#include "http/router.hpp"

#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

namespace {

using namespace bitnet::http;

const std::vector<api_route> routes = {{"GET", "/v1/models"},
                                       {"GET", "/v1/models/{id}"},
                                       {"POST", "/v1/completions"},
                                       {"POST", "/v1/{kind}/cancel"},
                                       {"DELETE", "/v1/models/{id}"}};

bool is_api(std::string_view method, std::string_view path) {
  return std::holds_alternative<route_result::api>(route(routes, method, path));
}

bool is_not_found(std::string_view method, std::string_view path) {
  return std::holds_alternative<route_result::not_found>(route(routes, method, path));
}

std::string allowed(std::string_view method, std::string_view path) {
  const auto decision = route(routes, method, path);
  const auto* const wrong = std::get_if<route_result::method_not_allowed>(&decision);
  return wrong == nullptr ? "(allowed)" : wrong->allow;
}

std::string path_of(std::string_view target) {
  request_target out;
  return parse_target(target, out) ? out.path : "(invalid)";
}

}  // namespace

BOOST_AUTO_TEST_SUITE(router)

BOOST_AUTO_TEST_CASE(probe_paths_answer_get_and_head_only) {
  const std::vector<std::pair<std::string, probe>> paths = {{"/health", probe::health},
                                                            {"/health/live", probe::live},
                                                            {"/health/ready", probe::ready},
                                                            {"/health/events", probe::events},
                                                            {"/metrics", probe::metrics}};
  for (const auto& [path, which] : paths) {
    for (const bool head : {false, true}) {
      const auto decision = route(routes, head ? "HEAD" : "GET", path);
      const auto* const found = std::get_if<route_result::probe_route>(&decision);
      BOOST_REQUIRE(found != nullptr);
      BOOST_TEST((found->which == which));
      BOOST_TEST(found->head == head);
    }
    for (const auto* const method : {"POST", "PUT", "DELETE", "OPTIONS", "get", "BREW"}) {
      BOOST_TEST(allowed(method, path) == "GET, HEAD");
    }
  }
}

BOOST_AUTO_TEST_CASE(the_history_of_health_is_asked_for_in_the_query) {
  BOOST_TEST((with_query(probe::health, "history=1") == probe::history));
  BOOST_TEST((with_query(probe::health, "a=b&history=1&c") == probe::history));
  for (const auto* const other : {"", "history", "history=0", "history=10", "xhistory=1", "&", "a=history=1"})
    BOOST_TEST((with_query(probe::health, other) == probe::health), other);
  BOOST_TEST((with_query(probe::ready, "history=1") == probe::ready));
}

BOOST_AUTO_TEST_CASE(probe_paths_match_exactly) {
  for (const auto* const path :
       {"/health/", "/healthz", "/Health", "/health/live/x", "/health//live", "health"}) {
    BOOST_TEST(is_not_found("GET", path), path);
  }
}

BOOST_AUTO_TEST_CASE(api_routes_match_method_and_path) {
  BOOST_TEST(is_api("POST", "/v1/completions"));
  BOOST_TEST(is_api("GET", "/v1/models"));
  BOOST_TEST(is_not_found("GET", "/v1/model"));
  BOOST_TEST(is_not_found("GET", "/v1/models2"));
  BOOST_TEST(is_not_found("GET", "/v1"));
  BOOST_TEST(is_not_found("GET", "/"));
  BOOST_TEST(is_not_found("OPTIONS", "*"));
}

BOOST_AUTO_TEST_CASE(head_is_served_by_the_get_route) {
  BOOST_TEST(is_api("HEAD", "/v1/models"));
  BOOST_TEST(allowed("HEAD", "/v1/completions") == "POST");
}

BOOST_AUTO_TEST_CASE(wrong_method_names_all_that_are_allowed) {
  BOOST_TEST(allowed("PUT", "/v1/models") == "GET, HEAD");
  BOOST_TEST(allowed("PUT", "/v1/models/x") == "GET, HEAD, DELETE");
  BOOST_TEST(allowed("GET", "/v1/completions") == "POST");
}

BOOST_AUTO_TEST_CASE(last_wildcard_takes_slashes_and_others_one_segment) {
  BOOST_TEST(is_api("GET", "/v1/models/demo"));
  BOOST_TEST(is_api("GET", "/v1/models/microsoft/bitnet-b1.58-2B-4T"));
  BOOST_TEST(is_not_found("GET", "/v1/models/"));
  BOOST_TEST(is_api("POST", "/v1/completions/cancel"));
  BOOST_TEST(is_not_found("POST", "/v1/a/b/cancel"));
  BOOST_TEST(is_not_found("POST", "/v1//cancel"));
}

BOOST_AUTO_TEST_CASE(targets_are_split_and_decoded) {
  request_target out;
  BOOST_REQUIRE(parse_target("/v1/models/a%2Fb%20c?x=%41&y", out));
  BOOST_TEST(out.path == "/v1/models/a/b c");
  BOOST_TEST(out.query == "x=%41&y");
  BOOST_REQUIRE(parse_target("/health?", out));
  BOOST_TEST(out.path == "/health");
  BOOST_TEST(out.query.empty());
}

BOOST_AUTO_TEST_CASE(absolute_targets_lose_scheme_and_authority) {
  BOOST_TEST(path_of("http://example.com:8080/health/live?x") == "/health/live");
  BOOST_TEST(path_of("http://example.com") == "/");
  BOOST_TEST(path_of("http://example.com?x") == "/");
}

BOOST_AUTO_TEST_CASE(broken_targets_are_refused) {
  for (const auto* const target : {"", "health", "example.com:80", "http://", "http:///x", "://x/y", "/%",
                                   "/%4", "/%zz", "/a%00b", "/a%0d%0ab", "/x#y"}) {
    BOOST_TEST(path_of(target) == "(invalid)", target << " gives " << path_of(target));
  }
}

BOOST_AUTO_TEST_SUITE_END()
