#include "fake_connection.hpp"

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <string>

namespace {

using namespace bitnet::http;
using namespace bitnet::http::test;
using namespace std::chrono_literals;

const std::string live = "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n";
const std::string wait_request = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";

}  // namespace

BOOST_AUTO_TEST_SUITE(connection_bounds)

BOOST_AUTO_TEST_CASE(too_long_headers_get_431) {
  for (const std::string& request :
       {"GET /health HTTP/1.1\r\nHost: a\r\nX: " + std::string(20000, 'x') + "\r\n\r\n",
        "GET /" + std::string(20000, 'x') + " HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /health HTTP/1.1\r\nX: " + std::string(20000, 'x')}) {
    fake_connection c;
    BOOST_TEST(status_of(c.ask(request)) == 431U);
    fake_connection piecewise;
    std::string answer;
    for (std::size_t at = 0; at < request.size(); at += 100)
      answer += piecewise.ask(std::string_view{request}.substr(at, 100));
    BOOST_TEST(status_of(answer) == 431U);
    BOOST_TEST(contains(answer, "Connection: close\r\n"));
  }
}

BOOST_AUTO_TEST_CASE(too_long_bodies_get_413_before_they_are_read) {
  connection_limits limits;
  limits.body_bytes = 1000;
  fake_connection c{limits};
  const auto answer =
      c.ask("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n");
  BOOST_TEST(status_of(answer) == 413U);
  BOOST_TEST(c.protocol->wants_shutdown());

  fake_connection chunked{limits};
  const auto header = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  BOOST_TEST(status_of(chunked.ask(header + std::string{"3e9\r\n"})) == 413U);
  fake_connection many_chunks{limits};
  std::string answers = many_chunks.ask(header);
  for (int i = 0; i < 101; ++i) answers += many_chunks.ask("a\r\n0123456789\r\n");
  BOOST_TEST(status_of(answers) == 413U);

  fake_connection fits{limits};
  BOOST_TEST(status_of(fits.ask("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" +
                                std::string(1000, 'b'))) == 200U);
}

BOOST_AUTO_TEST_CASE(endless_chunk_extensions_and_trailers_are_refused) {
  const std::string header = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string& part : {"5;" + std::string(100, 'x'), "0\r\nA: " + std::string(100, 'x')}) {
    fake_connection c;
    auto answer = c.ask(header + part);
    for (int i = 0; i < 400 && answer.empty(); ++i) answer += c.ask(std::string(100, 'x'));
    BOOST_TEST(status_of(answer) == 400U, part);
  }
}

BOOST_AUTO_TEST_CASE(silent_connections_are_closed_without_a_word) {
  fake_connection fresh;
  fresh.pass(9'999ms);
  BOOST_TEST(!fresh.protocol->closed());
  fresh.pass(1ms);
  BOOST_TEST(fresh.protocol->closed());
  BOOST_TEST(fresh.protocol->output().empty());

  fake_connection used;
  used.ask(live);
  used.pass(74'999ms);
  BOOST_TEST(!used.protocol->closed());
  used.pass(1ms);
  BOOST_TEST(used.protocol->closed());
}

BOOST_AUTO_TEST_CASE(requests_restart_the_idle_time) {
  fake_connection c;
  for (int i = 0; i < 5; ++i) {
    BOOST_TEST(status_of(c.ask(live)) == 200U);
    c.pass(60s);
  }
  BOOST_TEST(!c.protocol->closed());
}

BOOST_AUTO_TEST_CASE(headers_that_trickle_in_get_408) {
  fake_connection c;
  c.ask(live);
  std::string answer;
  for (int i = 0; i < 12 && answer.empty(); ++i) {
    answer += c.ask(i == 0 ? "GET /health HTTP/1.1\r\nHost: a\r\n" : "X: y\r\n");
    c.pass(1s);
    answer += c.take_output();
  }
  BOOST_TEST(status_of(answer) == 408U);
  BOOST_TEST(contains(answer, "Connection: close\r\n"));
  c.pass(1s);
  BOOST_TEST(c.protocol->closed());
}

BOOST_AUTO_TEST_CASE(bodies_that_trickle_in_get_408) {
  fake_connection c;
  std::string answer = c.ask("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
  for (int i = 0; i < 40 && answer.empty(); ++i) {
    answer += c.ask("x");
    c.pass(1s);
    answer += c.take_output();
  }
  BOOST_TEST(status_of(answer) == 408U);
  BOOST_TEST((c.now - connection::time_point{1h} == 30s));
}

BOOST_AUTO_TEST_CASE(pending_responses_have_no_deadline_here) {
  fake_connection c;
  c.send(wait_request);
  c.pass(24h);
  BOOST_TEST(!c.protocol->closed());
  c.api.take().writer->respond(200, {}, "at last");
  c.protocol->collect(c.now);
  BOOST_TEST(body_of(c.take_output()) == "at last");
  c.pass(1s);
  BOOST_TEST(!c.protocol->closed());
}

BOOST_AUTO_TEST_CASE(clients_that_take_nothing_are_cut) {
  fake_connection c;
  c.send(wait_request);
  const auto call = c.api.take();
  call.writer->begin_stream(200, {});
  for (int i = 0; i < 100; ++i) {
    call.writer->write("x");
    c.protocol->collect(c.now);
    // What is new does not restart the time; what is taken does.
    if (i == 40) c.protocol->sent(10, c.now);
    c.pass(1s);
    if (c.protocol->closed()) break;
  }
  BOOST_TEST(c.protocol->closed());
  BOOST_TEST((c.now - connection::time_point{1h} == 30s));
  BOOST_TEST(c.api.cancellations() == 1);
}

BOOST_AUTO_TEST_CASE(progress_restarts_the_write_time) {
  fake_connection c;
  c.send(wait_request);
  const auto call = c.api.take();
  call.writer->respond(200, {}, std::string(100'000, 'x'));
  c.protocol->collect(c.now);
  for (int i = 0; i < 100; ++i) {
    c.pass(29s);
    BOOST_REQUIRE(!c.protocol->closed());
    c.protocol->sent(500, c.now);
  }
  c.pass(30s);
  BOOST_TEST(c.protocol->closed());
}

BOOST_AUTO_TEST_CASE(streams_too_far_ahead_of_their_client_are_cut) {
  connection_limits limits;
  limits.unsent_bytes = 10'000;
  fake_connection c{limits};
  c.send(wait_request);
  const auto call = c.api.take();
  call.writer->begin_stream(200, {});
  call.writer->write(std::string(10'000, 'x'));
  c.protocol->collect(c.now);
  BOOST_TEST(!c.protocol->closed());
  call.writer->write("y");
  c.protocol->collect(c.now);
  BOOST_TEST(c.protocol->closed());
  BOOST_TEST(c.api.cancellations() == 1);
}

BOOST_AUTO_TEST_CASE(pipelined_answers_wait_while_the_client_reads_nothing) {
  fake_connection c;
  std::string requests;
  for (int i = 0; i < 100; ++i) requests += live;
  for (int i = 0; i < 1000 && c.protocol->wants_input(); ++i) c.send(requests);
  BOOST_TEST(!c.protocol->wants_input());
  BOOST_TEST(c.protocol->output().size() < 300'000U);
  // Nothing is lost: all is answered once it is taken.
  const auto before = c.counters.requests_total.load();
  const auto answers = c.take_output();
  BOOST_TEST(count(answers, "HTTP/1.1 200") == c.counters.requests_total.load());
  BOOST_TEST(c.counters.requests_total.load() >= before);
  BOOST_TEST(c.counters.requests_total.load() % 100U == 0U);
  BOOST_TEST(c.protocol->idle());
}

BOOST_AUTO_TEST_CASE(lingering_ends_after_its_time) {
  fake_connection c;
  c.ask("junk\r\n\r\n");
  BOOST_TEST(c.protocol->wants_shutdown());
  c.send(std::string(100'000, 'x'));
  c.pass(999ms);
  BOOST_TEST(!c.protocol->closed());
  c.pass(1ms);
  BOOST_TEST(c.protocol->closed());
}

BOOST_AUTO_TEST_CASE(probes_only_connections_must_ask_within_a_second) {
  fake_connection c{{}, true};
  c.pass(999ms);
  BOOST_TEST(!c.protocol->closed());
  c.pass(1ms);
  BOOST_TEST(c.protocol->closed());
}

BOOST_AUTO_TEST_SUITE_END()
