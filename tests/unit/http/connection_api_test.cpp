#include "fake_connection.hpp"

#include <boost/test/unit_test.hpp>

#include <string>

namespace {

using namespace bitnet::http;
using namespace bitnet::http::test;

const std::string wait_request = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
const std::string live = "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n";

}  // namespace

BOOST_AUTO_TEST_SUITE(connection_api)

BOOST_AUTO_TEST_CASE(api_gets_the_request_as_sent) {
  fake_connection c;
  c.send(
      "POST http://h/v1/completions?a=%20b HTTP/1.1\r\nHost: h\r\nX-Request-ID: client-1\r\nAuthorization: "
      "Bearer t\r\n"
      "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
  const auto call = c.api.take();
  BOOST_TEST(call.request.method == "POST");
  BOOST_TEST(call.request.path == "/v1/completions");
  BOOST_TEST(call.request.query == "a=%20b");
  BOOST_TEST(call.request.body == "{}");
  BOOST_TEST(call.request.request_id == "client-1");
  BOOST_TEST(call.request.client == "");  // without keys nobody has a name
}

BOOST_AUTO_TEST_CASE(answers_carry_status_headers_length_and_request_id) {
  fake_connection c;
  c.send("GET /wait HTTP/1.1\r\nHost: a\r\nx-request-id: me\r\n\r\n");
  const auto call = c.api.take();
  call.writer->respond(429, {{"Retry-After", "3"}, {"Content-Length", "999"}, {"X-Bad", "a\r\nInjected: b"}},
                       "{\"e\":1}");
  BOOST_TEST(c.wakes.load() == 1);
  c.protocol->collect(c.now);
  const auto answer = c.take_output();
  BOOST_TEST(answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n"));
  BOOST_TEST(contains(answer, "\r\nRetry-After: 3\r\n"));
  BOOST_TEST(contains(answer, "\r\nContent-Length: 7\r\n"));
  BOOST_TEST(!contains(answer, "999"));
  BOOST_TEST(!contains(answer, "Injected"));
  BOOST_TEST(contains(answer, "\r\nx-request-id: me\r\n"));
  BOOST_TEST(contains(answer, "\r\nContent-Type: application/json\r\n"));
  BOOST_TEST(contains(answer, "\r\nDate: "));
  BOOST_TEST(body_of(answer) == "{\"e\":1}");
  BOOST_TEST(status_of(c.ask(live)) == 200U);
  BOOST_REQUIRE(c.logged.size() == 1U);
  BOOST_TEST(c.logged[0].request_id == "me");
  BOOST_TEST(c.logged[0].response_bytes == 7U);
  BOOST_TEST(c.logged[0].completed);
  BOOST_TEST(c.api.cancellations() == 0);
}

BOOST_AUTO_TEST_CASE(unusable_request_ids_are_replaced) {
  BOOST_TEST(is_valid_request_id("a"));
  BOOST_TEST(is_valid_request_id(std::string(128, 'x')));
  BOOST_TEST(!is_valid_request_id(std::string(129, 'x')));
  BOOST_TEST(!is_valid_request_id(""));
  BOOST_TEST(!is_valid_request_id("a b"));
  BOOST_TEST(!is_valid_request_id("a\xc3\xa9"));
  fake_connection c;
  c.ask("GET /echo HTTP/1.1\r\nHost: a\r\nx-request-id: a b\r\n\r\n");
  c.ask("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n");
  BOOST_REQUIRE(c.logged.size() == 2U);
  BOOST_TEST(c.logged[0].request_id.starts_with("req-"));
  BOOST_TEST(c.logged[0].request_id != c.logged[1].request_id);
}

BOOST_AUTO_TEST_CASE(streams_are_chunked_in_order_and_the_connection_goes_on) {
  fake_connection c;
  c.send(wait_request);
  const auto call = c.api.take();
  call.writer->begin_stream(200, {{"Content-Type", "text/event-stream"}});
  call.writer->write("data: 1\n\n");
  c.protocol->collect(c.now);
  auto answer = c.take_output();
  BOOST_TEST(contains(answer, "\r\nTransfer-Encoding: chunked\r\n"));
  BOOST_TEST(!contains(answer, "Content-Length"));
  BOOST_TEST(contains(answer, "\r\nCache-Control: no-cache\r\n"));
  BOOST_TEST(contains(answer, "\r\nX-Accel-Buffering: no\r\n"));
  BOOST_TEST(body_of(answer) == "9\r\ndata: 1\n\n\r\n");
  call.writer->write("");
  call.writer->write("data: 2\n\n");
  call.writer->write("data: 3\n\n");
  call.writer->end_stream();
  c.protocol->collect(c.now);
  BOOST_TEST(c.take_output() == "9\r\ndata: 2\n\n\r\n9\r\ndata: 3\n\n\r\n0\r\n\r\n");
  BOOST_TEST(status_of(c.ask(live)) == 200U);
  BOOST_REQUIRE(c.logged.size() == 1U);
  BOOST_TEST(c.logged[0].response_bytes == 27U);
}

BOOST_AUTO_TEST_CASE(streams_to_http_1_0_end_with_the_connection) {
  fake_connection c;
  c.send("GET /wait HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const auto call = c.api.take();
  call.writer->begin_stream(200, {});
  call.writer->write("abc");
  call.writer->end_stream();
  c.protocol->collect(c.now);
  const auto answer = c.take_output();
  BOOST_TEST(!contains(answer, "chunked"));
  BOOST_TEST(contains(answer, "\r\nConnection: close\r\n"));
  BOOST_TEST(body_of(answer) == "abc");
  BOOST_TEST(c.protocol->closed());
}

BOOST_AUTO_TEST_CASE(dropped_writers_are_answered_for) {
  fake_connection c;
  const auto dropped = c.ask("GET /drop HTTP/1.1\r\nHost: a\r\n\r\n");
  BOOST_TEST(status_of(dropped) == 500U);
  BOOST_TEST(contains(dropped, "server_error"));
  const auto thrown = c.ask("GET /throw HTTP/1.1\r\nHost: a\r\n\r\n");
  BOOST_TEST(status_of(thrown) == 500U);
  BOOST_TEST(status_of(c.ask(live)) == 200U);
}

BOOST_AUTO_TEST_CASE(streams_that_are_dropped_are_cut_so_that_nobody_takes_them_for_whole) {
  fake_connection c;
  c.send(wait_request);
  auto call = c.api.take();
  call.writer->begin_stream(200, {});
  call.writer->write("part");
  call.writer.reset();
  c.protocol->collect(c.now);
  BOOST_TEST(c.protocol->closed());
  BOOST_TEST(!contains(c.protocol->output(), "\r\n0\r\n\r\n"));
  BOOST_REQUIRE(c.logged.size() == 1U);
  BOOST_TEST(!c.logged[0].completed);
}

BOOST_AUTO_TEST_CASE(calls_out_of_order_are_ignored) {
  fake_connection c;
  c.send(wait_request);
  const auto call = c.api.take();
  call.writer->write("too early");
  call.writer->end_stream();
  call.writer->respond(200, {}, "first");
  call.writer->respond(500, {}, "second");
  call.writer->write("late");
  c.protocol->collect(c.now);
  const auto answer = c.take_output();
  BOOST_TEST(count(answer, "HTTP/1.1 ") == 1U);
  BOOST_TEST(body_of(answer) == "first");
  BOOST_TEST(c.ask(live).starts_with("HTTP/1.1 200"));
}

BOOST_AUTO_TEST_CASE(bodiless_statuses_have_no_body_and_no_length) {
  fake_connection c;
  c.send(wait_request);
  c.api.take().writer->respond(204, {}, "ignored");
  c.protocol->collect(c.now);
  const auto answer = c.take_output();
  BOOST_TEST(answer.starts_with("HTTP/1.1 204 No Content\r\n"));
  BOOST_TEST(!contains(answer, "Content-Length"));
  BOOST_TEST(body_of(answer).empty());
}

BOOST_AUTO_TEST_CASE(requests_behind_a_pending_one_wait_for_it) {
  fake_connection c;
  c.send(wait_request + live);
  BOOST_TEST(c.take_output().empty());
  c.api.take().writer->respond(200, {}, "first");
  c.protocol->collect(c.now);
  const auto answers = c.take_output();
  BOOST_TEST(count(answers, "HTTP/1.1 200") == 2U);
  BOOST_TEST(answers.find("first") < answers.find("live"));
}

BOOST_AUTO_TEST_CASE(pipelined_input_behind_a_pending_request_is_bounded) {
  fake_connection c;
  c.send(wait_request);
  BOOST_TEST(c.protocol->wants_input());
  c.send(std::string(c.limits.header_bytes, 'x'));
  BOOST_TEST(!c.protocol->wants_input());
}

BOOST_AUTO_TEST_CASE(a_client_that_leaves_cancels_its_exchange) {
  fake_connection c;
  c.send(wait_request);
  const auto call = c.api.take();
  c.protocol->receive_eof(c.now);
  BOOST_TEST(c.api.cancellations() == 1);
  BOOST_TEST(c.protocol->closed());
  call.writer->respond(200, {}, "for nobody");
  call.writer->write("for nobody");
  BOOST_TEST(call.writer->unsent_bytes() == 0U);
  BOOST_REQUIRE(c.logged.size() == 1U);
  BOOST_TEST(c.logged[0].status == 0U);
  BOOST_TEST(!c.logged[0].completed);

  fake_connection broken;
  broken.send(wait_request);
  const auto kept = broken.api.take();
  broken.protocol->abort();
  BOOST_TEST(broken.api.cancellations() == 1);
}

BOOST_AUTO_TEST_CASE(unsent_bytes_follow_the_clients_reading) {
  fake_connection c;
  c.send(wait_request);
  const auto call = c.api.take();
  call.writer->begin_stream(200, {});
  BOOST_TEST(call.writer->unsent_bytes() == 0U);
  call.writer->write(std::string(1000, 'a'));
  BOOST_TEST(call.writer->unsent_bytes() == 1000U);
  c.protocol->collect(c.now);
  BOOST_TEST(call.writer->unsent_bytes() == 1000U);
  c.protocol->sent(500, c.now);
  BOOST_TEST(call.writer->unsent_bytes() == 500U);
  c.take_output();
  BOOST_TEST(call.writer->unsent_bytes() == 0U);
}

BOOST_AUTO_TEST_CASE(draining_closes_api_connections_and_leaves_probes_alone) {
  fake_connection c;
  c.draining = true;
  BOOST_TEST(!contains(c.ask(live), "Connection: close"));
  BOOST_TEST(contains(c.ask("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n"), "Connection: close\r\n"));
  BOOST_TEST(c.protocol->closed());
}

BOOST_AUTO_TEST_CASE(finish_closes_idle_connections_and_lets_exchanges_end) {
  fake_connection idle;
  idle.ask(live);
  idle.protocol->finish(idle.now);
  BOOST_TEST(idle.protocol->closed());

  fake_connection busy;
  busy.send(wait_request + live);
  busy.protocol->finish(busy.now);
  BOOST_TEST(!busy.protocol->closed());
  busy.api.take().writer->respond(200, {}, "done");
  busy.protocol->collect(busy.now);
  const auto answer = busy.take_output();
  BOOST_TEST(body_of(answer) == "done");
  BOOST_TEST(contains(answer, "Connection: close\r\n"));
  BOOST_TEST(busy.protocol->closed());
}

BOOST_AUTO_TEST_SUITE_END()
