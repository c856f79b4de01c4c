#include "fake_connection.hpp"

#include <boost/json/parse.hpp>
#include <boost/test/unit_test.hpp>

#include <random>
#include <string>

namespace {

using namespace bitnet::http;
using namespace bitnet::http::test;

const std::string live = "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n";

/// The body is an OpenAI error object with this type; everything in it is checked.
bool is_error_object(const std::string& answer, std::string_view type) {
  boost::json::error_code error;
  const auto value = boost::json::parse(body_of(answer), error);
  if (error || !value.is_object()) return false;
  const auto* const inner = value.as_object().if_contains("error");
  if (inner == nullptr || !inner->is_object()) return false;
  const auto& object = inner->as_object();
  return object.contains("message") && object.contains("param") && object.contains("code") &&
         object.at("message").is_string() && !object.at("message").as_string().empty() &&
         object.at("param").is_null() && object.at("type").is_string() &&
         std::string_view{object.at("type").as_string().c_str()} == type;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(connection_protocol)

BOOST_AUTO_TEST_CASE(probes_are_answered_with_the_sources_bytes) {
  fake_connection c;
  std::string expected;
  c.probes.append_answer(probe::live, false, true, expected);
  BOOST_TEST(c.ask(live) == expected);
  BOOST_TEST(!c.protocol->closed());
  BOOST_TEST(c.counters.requests_total.load() == 1U);
}

BOOST_AUTO_TEST_CASE(requests_may_arrive_byte_by_byte) {
  fake_connection c;
  for (const std::string& request :
       {live, std::string{"GET /health/ready?verbose HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n"}}) {
    std::string answer;
    for (const char byte : request) answer += c.ask({&byte, 1});
    BOOST_TEST(status_of(answer) == 200U);
  }
  std::string answer;
  for (const char byte : std::string{"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"}) {
    answer += c.ask({&byte, 1});
  }
  BOOST_TEST(body_of(answer) == "hello");
  answer.clear();
  for (const char byte : std::string{"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                                     "3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Trailer: t\r\n\r\n"}) {
    answer += c.ask({&byte, 1});
  }
  BOOST_TEST(body_of(answer) == "abc0123456789");
  answer.clear();
  for (const char byte :
       std::string{"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"}) {
    answer += c.ask({&byte, 1});
  }
  BOOST_TEST(status_of(answer) == 200U);
  BOOST_TEST(c.counters.protocol_errors_total.load() == 0U);
}

BOOST_AUTO_TEST_CASE(fifty_pipelined_requests_are_answered_in_order) {
  fake_connection c;
  std::string requests;
  for (int i = 0; i < 50; ++i) {
    requests += i % 5 == 4
                    ? fmt::format("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{:02}", i)
                    : fmt::format("GET /nothing/{:02} HTTP/1.1\r\nHost: a\r\n\r\n", i);
  }
  c.send(requests);
  std::string answers;
  for (int i = 0; i < 20; ++i) {
    answers += c.take_output();
    c.protocol->collect(c.now);
  }
  BOOST_TEST(count(answers, "HTTP/1.1 ") == 50U);
  std::size_t at = 0;
  for (int i = 0; i < 50; ++i) {
    const auto mark = i % 5 == 4 ? fmt::format("\r\n\r\n{:02}", i) : fmt::format("/nothing/{:02} ", i);
    const auto found = answers.find(mark, at);
    BOOST_REQUIRE_MESSAGE(found != std::string::npos, "answer " << i << " is missing or out of order");
    at = found;
  }
}

BOOST_AUTO_TEST_CASE(empty_lines_in_front_of_a_request_are_ignored) {
  fake_connection c;
  BOOST_TEST(status_of(c.ask("\r\n\r\n" + live)) == 200U);
  BOOST_TEST(c.ask("\r").empty());
  BOOST_TEST(status_of(c.ask("\n" + live)) == 200U);
}

BOOST_AUTO_TEST_CASE(head_has_the_length_and_no_body) {
  fake_connection c;
  const auto probe_answer = c.ask("HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n");
  BOOST_TEST(contains(probe_answer, "Content-Length: 6\r\n"));
  BOOST_TEST(body_of(probe_answer).empty());
  const auto api_answer = c.ask("HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n");
  BOOST_TEST(status_of(api_answer) == 200U);
  const auto unknown = c.ask("HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
  BOOST_TEST(status_of(unknown) == 404U);
  BOOST_TEST(body_of(unknown).empty());
  BOOST_TEST(!contains(unknown, "Content-Length: 0"));
  BOOST_TEST(!c.protocol->closed());
}

BOOST_AUTO_TEST_CASE(unknown_paths_get_404_and_the_connection_goes_on) {
  fake_connection c;
  const auto answer = c.ask("GET /v2/none\"\xff HTTP/1.1\r\nHost: a\r\n\r\n");
  BOOST_TEST(status_of(answer) == 404U);
  BOOST_TEST(is_error_object(answer, "not_found_error"), answer);
  BOOST_TEST(status_of(c.ask(live)) == 200U);
}

BOOST_AUTO_TEST_CASE(wrong_methods_get_405_with_allow) {
  fake_connection c;
  const auto answer = c.ask("POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
  BOOST_TEST(status_of(answer) == 405U);
  BOOST_TEST(contains(answer, "\r\nAllow: GET, HEAD\r\n"));
  BOOST_TEST(contains(answer, "\r\nCache-Control: no-store\r\n"));
  BOOST_TEST(is_error_object(answer, "invalid_request_error"), answer);
  BOOST_TEST(contains(c.ask("GET /v1/completions HTTP/1.1\r\nHost: a\r\n\r\n"), "\r\nAllow: POST\r\n"));
  BOOST_TEST(status_of(c.ask(live)) == 200U);
}

BOOST_AUTO_TEST_CASE(refused_bodies_end_the_connection_after_lingering) {
  fake_connection c;
  const auto answer = c.ask("POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
  BOOST_TEST(status_of(answer) == 405U);
  BOOST_TEST(contains(answer, "\r\nConnection: close\r\n"));
  BOOST_TEST(c.protocol->wants_shutdown());
  BOOST_TEST(c.ask(live).empty());
  c.protocol->receive_eof(c.now);
  BOOST_TEST(c.protocol->closed());
}

BOOST_AUTO_TEST_CASE(malformed_requests_get_an_error_object_and_end_the_connection) {
  const std::vector<std::pair<std::string, unsigned>> requests = {
      {"hello\r\n\r\n", 400},
      {"GET  /health HTTP/1.1\r\n\r\n", 400},
      {"GET /health HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n", 400},
      {"GET /health HTTP/1.1\r\nHost : a\r\n\r\n", 400},
      {"GET /health HTTP/1.1\r\n\r\n", 400},
      {"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"GET /health/%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET /health HTTP/2.0\r\nHost: a\r\n\r\n", 505},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\nab", 400},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       400},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
       400},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
      {"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: magic\r\nContent-Length: 1\r\n\r\n", 417}};
  for (const auto& [request, status] : requests) {
    fake_connection c;
    // A bad target leaves the connection usable: where the request ends is known.
    const bool ends = !request.starts_with("GET /health/%zz");
    const auto answer = c.ask(ends ? request + live : request);
    BOOST_TEST(status_of(answer) == status, request << " gave " << answer);
    BOOST_TEST(is_error_object(answer, status >= 500 ? "server_error" : "invalid_request_error"), request);
    if (ends) {
      BOOST_TEST(contains(answer, "\r\nConnection: close\r\n"), request);
      BOOST_TEST(count(answer, "\r\nDate: ") == 1U, request);
      BOOST_TEST(c.protocol->wants_shutdown(), request);
    }
    BOOST_TEST(c.counters.protocol_errors_total.load() == 1U, request);
  }
}

BOOST_AUTO_TEST_CASE(http_1_0_closes_unless_asked_to_keep_alive) {
  fake_connection c;
  const auto answer = c.ask("GET /health HTTP/1.0\r\n\r\n");
  BOOST_TEST(status_of(answer) == 200U);
  BOOST_TEST(contains(answer, "Connection: close\r\n"));
  BOOST_TEST(c.protocol->closed());

  fake_connection kept;
  BOOST_TEST(contains(kept.ask("GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
                      "Connection: keep-alive\r\n"));
  BOOST_TEST(!kept.protocol->closed());
}

BOOST_AUTO_TEST_CASE(connection_close_is_honoured) {
  fake_connection c;
  const auto answer = c.ask("GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + live);
  BOOST_TEST(count(answer, "HTTP/1.1 ") == 1U);
  BOOST_TEST(contains(answer, "Connection: close\r\n"));
  BOOST_TEST(c.protocol->closed());
}

BOOST_AUTO_TEST_CASE(eof_between_requests_closes_and_eof_after_a_request_lets_the_answer_out) {
  fake_connection c;
  c.protocol->receive_eof(c.now);
  BOOST_TEST(c.protocol->closed());

  fake_connection answered;
  answered.send(live);
  answered.protocol->receive_eof(answered.now);
  BOOST_TEST(!answered.protocol->closed());
  BOOST_TEST(status_of(answered.take_output()) == 200U);
  BOOST_TEST(answered.protocol->closed());
}

BOOST_AUTO_TEST_CASE(expect_100_continue_is_answered_before_the_body_and_not_for_refusals) {
  fake_connection c;
  const std::string header =
      "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
  BOOST_TEST(c.ask(header) == "HTTP/1.1 100 Continue\r\n\r\n");
  BOOST_TEST(body_of(c.ask("body")) == "body");
  // The body is already there: nothing to wait for.
  BOOST_TEST(status_of(c.ask(header + "body")) == 200U);

  fake_connection refused;
  const auto answer =
      refused.ask("POST /nothing HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
  BOOST_TEST(status_of(answer) == 404U);
  BOOST_TEST(contains(answer, "Connection: close\r\n"));
}

BOOST_AUTO_TEST_CASE(refusals_are_logged_and_probes_are_not) {
  fake_connection c;
  c.ask(live);
  c.ask("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
  c.ask("junk\r\n\r\n");
  BOOST_REQUIRE(c.logged.size() == 2U);
  BOOST_TEST(c.logged[0].status == 404U);
  BOOST_TEST(c.logged[0].target == "/nothing");
  BOOST_TEST(c.logged[1].status == 400U);
}

BOOST_AUTO_TEST_CASE(probes_only_connections_refuse_everything_else) {
  fake_connection probing{{}, true};
  const auto answer = probing.ask(live);
  BOOST_TEST(status_of(answer) == 200U);
  BOOST_TEST(contains(answer, "Connection: close\r\n"));
  BOOST_TEST(probing.protocol->closed());

  fake_connection asking{{}, true};
  const auto refusal = asking.ask("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
  BOOST_TEST(status_of(refusal) == 503U);
  BOOST_TEST(is_error_object(refusal, "unavailable_error"), refusal);
  BOOST_TEST(contains(refusal, "Connection: close\r\n"));
  BOOST_TEST(contains(refusal, "Retry-After: 1\r\n"));
  BOOST_TEST(asking.counters.connections_refused.load() == 1U);
}

namespace {

/// Bytes as a fuzzer would send them: valid requests, damaged, cut and mixed with noise.
std::string make_noise(std::mt19937& random) {
  static const std::string seeds[] = {
      live, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
      "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
      "GET http://a/v1/models/x%20y?z HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"};
  std::string bytes;
  for (auto n = random() % 3 + 1; n != 0; --n) bytes += seeds[random() % 4];
  for (auto n = random() % 20; n != 0; --n) {
    const auto at = random() % bytes.size();
    const auto front = bytes.substr(0, at), back = bytes.substr(at);
    switch (random() % 4) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes = fmt::format("{}{}{}", front, std::string(random() % 8, static_cast<char>(random())), back);
        break;
      case 2:
        bytes = fmt::format("{}\r{}", front, back.substr(std::min<std::size_t>(random() % 8, back.size())));
        break;
      default:
        bytes = fmt::format("{}{}{}", front, back.substr(0, random() % 32), back);
        break;
    }
  }
  return bytes;
}

}  // namespace

BOOST_AUTO_TEST_CASE(noise_gets_answers_or_a_close_and_nothing_worse) {
  std::mt19937 random{42};
  std::size_t refused = 0, answered = 0;
  for (int i = 0; i < 5000; ++i) {
    fake_connection c;
    auto noise = make_noise(random);
    if (i % 10 == 0) {
      for (auto& byte : noise) byte = static_cast<char>(random());
    }
    std::string answers;
    for (std::size_t at = 0; at < noise.size();) {
      const auto size = std::min<std::size_t>(random() % 40 + 1, noise.size() - at);
      answers += c.ask(std::string_view{noise}.substr(at, size));
      at += size;
    }
    if (i % 2 == 0) c.protocol->receive_eof(c.now);
    c.pass(std::chrono::minutes{10});
    answers += c.take_output();
    c.pass(std::chrono::minutes{10});
    c.pass(std::chrono::minutes{10});
    // A request that waits for the API may stay; everything else has come to its end.
    BOOST_REQUIRE((c.protocol->closed() || c.protocol->exchange_pending()));
    if (!answers.empty()) BOOST_REQUIRE_MESSAGE(status_of(answers) != 0, answers);
    refused += count(answers, "HTTP/1.1 4");
    answered += count(answers, "HTTP/1.1 2");
  }
  BOOST_TEST(refused > 500U);
  BOOST_TEST(answered > 500U);
}

BOOST_AUTO_TEST_SUITE_END()
