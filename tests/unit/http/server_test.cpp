#include "server_fixture.hpp"

#include <boost/test/unit_test.hpp>

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

using namespace bitnet::http;
using namespace bitnet::http::test;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(server_suite)

BOOST_FIXTURE_TEST_CASE(probes_and_routes_are_served_over_one_connection, server_fixture) {
  start();
  auto client = connect();
  BOOST_TEST(body_of(client.ask(live_request)) == "live");
  BOOST_TEST(body_of(client.ask(echo_request("hello"))) == "hello");
  BOOST_TEST(status_of(client.ask("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")) == 404U);
  BOOST_TEST(body_of(client.ask(ready_request)) == "ready");
  const auto statistics = front_end->statistics();
  BOOST_TEST(statistics.requests_total == 4U);
  BOOST_TEST(statistics.connections_open == 1U);
  BOOST_TEST(statistics.connections_total == 1U);
  client.close();
  BOOST_TEST(eventually([&] { return front_end->statistics().connections_open == 0; }));
}

BOOST_FIXTURE_TEST_CASE(a_header_may_arrive_byte_by_byte, server_fixture) {
  start();
  auto client = connect();
  for (const char byte : live_request) {
    BOOST_REQUIRE(client.send({&byte, 1}));
    std::this_thread::sleep_for(1ms);
  }
  BOOST_TEST(body_of(client.receive_response()) == "live");
}

BOOST_FIXTURE_TEST_CASE(pipelined_requests_come_back_in_order, server_fixture) {
  start();
  auto client = connect();
  std::string requests;
  for (int i = 0; i < 50; ++i) requests += i % 2 == 0 ? live_request : echo_request(std::to_string(i));
  BOOST_REQUIRE(client.send(requests));
  for (int i = 0; i < 50; ++i) {
    BOOST_TEST(body_of(client.receive_response()) == (i % 2 == 0 ? "live" : std::to_string(i)));
  }
}

BOOST_FIXTURE_TEST_CASE(streams_reach_the_client_piece_by_piece, server_fixture) {
  start();
  auto client = connect();
  BOOST_REQUIRE(client.send(wait_request));
  const auto call = api.take();
  BOOST_REQUIRE(call.writer != nullptr);
  call.writer->begin_stream(200, {{"Content-Type", "text/event-stream"}});
  BOOST_TEST(contains(client.receive_through("\r\n\r\n"), "Transfer-Encoding: chunked"));
  for (int i = 0; i < 20; ++i) {
    call.writer->write(fmt::format("data: {}\n\n", i));
    BOOST_TEST(contains(client.receive_through("\n\n\r\n"), fmt::format("data: {}\n\n", i)));
  }
  call.writer->end_stream();
  BOOST_TEST(client.receive_through("0\r\n\r\n") == "0\r\n\r\n");
  BOOST_TEST(body_of(client.ask(live_request)) == "live");
}

BOOST_FIXTURE_TEST_CASE(long_bodies_go_in_and_out, server_fixture) {
  start();
  auto client = connect();
  std::string body(3 * 1024 * 1024, 'x');
  for (std::size_t i = 0; i < body.size(); i += 7) body[i] = static_cast<char>('a' + i % 26);
  std::thread sender{[&] { client.send(echo_request(body)); }};
  const auto answer = client.receive_response();
  sender.join();
  BOOST_TEST((body_of(answer) == body));
}

BOOST_FIXTURE_TEST_CASE(a_client_that_leaves_cancels, server_fixture) {
  start();
  for (int i = 1; i <= 3; ++i) {
    auto client = connect();
    BOOST_REQUIRE(client.send(wait_request));
    auto call = api.take();
    BOOST_REQUIRE(call.writer != nullptr);
    if (i == 2) call.writer->begin_stream(200, {});
    if (i == 3) {
      client.shutdown_send();
    } else {
      client.close();
    }
    BOOST_TEST(api.wait_for_cancellations(i));
    call.writer->write("for nobody");
  }
  BOOST_TEST(eventually([&] { return front_end->statistics().connections_open == 0; }));
}

BOOST_FIXTURE_TEST_CASE(a_client_that_leaves_behind_pipelined_requests_cancels, server_fixture) {
  options.limits.header_bytes = 1024;
  options.limits.header_timeout = 200ms;
  start();
  auto client = connect();
  BOOST_REQUIRE(client.send(wait_request));
  const auto call = api.take();
  BOOST_REQUIRE(call.writer != nullptr);
  // More than the input takes, so that the FIN stays unread behind it.
  std::string requests;
  for (int i = 0; i < 300; ++i) requests += live_request;
  for (int i = 0; i < 4; ++i) BOOST_REQUIRE(client.send(requests));
  client.shutdown_send();
  BOOST_TEST(api.wait_for_cancellations(1));
}

BOOST_FIXTURE_TEST_CASE(slow_headers_are_cut, server_fixture) {
  options.limits.header_timeout = 200ms;
  start();
  auto client = connect();
  BOOST_REQUIRE(client.send("GET /health HTTP/1.1\r\nHost: a\r\n"));
  std::string answer;
  bool closed = false;
  std::thread sender{[&] {
    for (int i = 0; i < 400 && client.send("X: y\r\n"); ++i) std::this_thread::sleep_for(10ms);
  }};
  answer = client.receive_all(closed);
  sender.join();
  BOOST_TEST(closed);
  BOOST_TEST(status_of(answer) == 408U);
}

BOOST_FIXTURE_TEST_CASE(idle_connections_are_closed, server_fixture) {
  options.limits.idle_timeout = 100ms;
  start();
  auto client = connect();
  BOOST_TEST(body_of(client.ask(live_request)) == "live");
  BOOST_TEST(client.wait_for_close());
}

BOOST_FIXTURE_TEST_CASE(slow_readers_are_cut_and_their_exchange_is_cancelled, server_fixture) {
  options.limits.write_timeout = 300ms;
  options.limits.unsent_bytes = 1024 * 1024 * 1024;
  start();
  auto client = connect(4096);
  BOOST_REQUIRE(client.send(wait_request));
  const auto call = api.take();
  BOOST_REQUIRE(call.writer != nullptr);
  call.writer->begin_stream(200, {});
  for (int i = 0; i < 200; ++i) call.writer->write(std::string(100'000, 'x'));
  BOOST_TEST(api.wait_for_cancellations(1));
  BOOST_TEST(call.writer->unsent_bytes() > 0U);
}

BOOST_FIXTURE_TEST_CASE(refusals_arrive_although_the_client_still_sends, server_fixture) {
  options.limits.body_bytes = 1000;
  start();
  auto client = connect();
  std::thread sender{[&] { client.send(echo_request(std::string(2'000'000, 'x'))); }};
  bool closed = false;
  const auto answer = client.receive_all(closed);
  sender.join();
  BOOST_TEST(status_of(answer) == 413U);
  BOOST_TEST(closed);
}

BOOST_FIXTURE_TEST_CASE(beyond_the_cap_only_probes_are_answered, server_fixture) {
  options.max_connections = 4;
  options.probe_reserve = 2;
  options.eviction_idle_age = 1h;
  start();
  std::vector<test_client> full;
  for (int i = 0; i < 4; ++i) {
    full.push_back(connect());
    BOOST_REQUIRE(status_of(full.back().ask(live_request)) == 200U);
  }
  for (int i = 0; i < 10; ++i) {
    auto probing = connect();
    const auto answer = probing.ask(ready_request);
    BOOST_TEST(body_of(answer) == "ready");
    BOOST_TEST(contains(answer, "Connection: close"));
    auto asking = connect();
    BOOST_TEST(status_of(asking.ask(echo_request("x"))) == 503U);
  }
  // Probe connections that ask nothing do not keep others from asking.
  std::vector<test_client> silent;
  for (int i = 0; i < 20; ++i) silent.push_back(connect());
  auto probing = connect();
  BOOST_TEST(body_of(probing.ask(live_request)) == "live");
  // Those within the cap are not touched.
  for (auto& client : full) BOOST_TEST(body_of(client.ask(echo_request("x"))) == "x");
  BOOST_TEST(front_end->statistics().connections_refused >= 10U);
}

BOOST_FIXTURE_TEST_CASE(at_the_cap_the_longest_idle_connection_makes_room, server_fixture) {
  options.max_connections = 2;
  options.eviction_idle_age = 0ms;
  start();
  auto oldest = connect();
  BOOST_REQUIRE(status_of(oldest.ask(live_request)) == 200U);
  auto busy = connect();
  BOOST_REQUIRE(busy.send(wait_request));
  const auto call = api.take();
  BOOST_REQUIRE(call.writer != nullptr);
  auto fresh = connect();
  BOOST_TEST(body_of(fresh.ask(echo_request("fresh"))) == "fresh");
  BOOST_TEST(oldest.wait_for_close());
  call.writer->respond(200, {}, "still here");
  BOOST_TEST(body_of(busy.receive_response()) == "still here");
}

BOOST_FIXTURE_TEST_CASE(a_thread_that_is_held_up_is_seen_to_be_silent, server_fixture) {
  std::atomic<bool> held{true};
  options.log = [&](const access_record&) {
    while (held) std::this_thread::sleep_for(std::chrono::milliseconds{1});
  };
  start();
  BOOST_TEST(front_end->silence().count() == 0);
  auto client = connect();
  BOOST_REQUIRE(client.send("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"));
  BOOST_TEST(eventually([&] { return front_end->silence() >= std::chrono::milliseconds{20}; }));
  BOOST_TEST(front_end->silence().count() >= 20);
  held = false;
  BOOST_TEST(eventually([&] { return front_end->silence().count() == 0; }));
}

BOOST_AUTO_TEST_CASE(unusable_addresses_are_told_in_one_sentence) {
  fake_probes probes;
  fake_api api;
  const auto error_of = [&](const std::string& address, std::uint16_t port) {
    server_options options;
    options.address = address;
    options.port = port;
    const auto started = server::start(options, probes, api);
    return started ? std::string{"(started)"} : started.error();
  };
  BOOST_TEST(contains(error_of("example", 0), "'example'"));
  BOOST_TEST(contains(error_of("192.0.2.77", 0), "192.0.2.77:0: this machine has no such address"));
  server_options options;
  options.port = 0;
  const auto first = server::start(options, probes, api);
  BOOST_REQUIRE(first.has_value());
  const auto taken = error_of("127.0.0.1", (*first)->port());
  BOOST_TEST(contains(taken, fmt::format("127.0.0.1:{}: another process listens there", (*first)->port())),
             taken);
  BOOST_TEST(!contains(taken, "\n"));
  options.threads = 0;
  BOOST_TEST(contains(server::start(options, probes, api).error(), "http.threads"));
}

BOOST_FIXTURE_TEST_CASE(ipv6_takes_both_families, server_fixture) {
  options.address = "::";
  auto started = server::start(options, probes, api);
  if (!started && contains(started.error(), "ddress family")) {
    BOOST_TEST_MESSAGE("skipped: this machine has no IPv6");
    return;
  }
  BOOST_REQUIRE_MESSAGE(started.has_value(), started.error());
  front_end = std::move(*started);
  BOOST_TEST(body_of(connect().ask(live_request)) == "live");
}

BOOST_FIXTURE_TEST_CASE(the_cap_follows_the_limit_of_descriptors, server_fixture) {
  options.max_connections = 100'000'000;
  start();
  rlimit files{};
  BOOST_REQUIRE(::getrlimit(RLIMIT_NOFILE, &files) == 0);
  BOOST_TEST(front_end->connection_limit() < files.rlim_cur);
  BOOST_TEST(front_end->connection_limit() > 0U);
}

// A server out of descriptors lives, and its probes must say so: a restart would lose every stream.
BOOST_FIXTURE_TEST_CASE(probes_are_answered_when_descriptors_are_exhausted, server_fixture) {
  start();
  auto busy = connect();
  BOOST_REQUIRE(busy.send(wait_request));
  const auto call = api.take();
  BOOST_REQUIRE(call.writer != nullptr);

  // The sockets of the clients to come are opened while there are descriptors.
  std::vector<int> clients;
  for (int i = 0; i < 12; ++i) clients.push_back(::socket(AF_INET, SOCK_STREAM, 0));
  rlimit before{};
  BOOST_REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  auto none = before;
  none.rlim_cur = static_cast<rlim_t>(*std::max_element(clients.begin(), clients.end())) + 1;
  BOOST_REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  std::vector<int> fillers;
  for (int d = ::dup(0); d >= 0; d = ::dup(0)) fillers.push_back(d);

  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(front_end->port());
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::vector<std::string> answers;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    const timeval patience{5, 0};
    ::setsockopt(clients[i], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (::connect(clients[i], reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) continue;
    const auto request = i % 3 == 2 ? echo_request("x") : live_request;
    static_cast<void>(::send(clients[i], request.data(), request.size(), MSG_NOSIGNAL));
    char buffer[1024];
    const auto n = ::recv(clients[i], buffer, sizeof buffer, 0);
    answers.emplace_back(buffer, n > 0 ? static_cast<std::size_t>(n) : 0);
  }
  ::setrlimit(RLIMIT_NOFILE, &before);
  for (const int d : fillers) ::close(d);
  for (const int d : clients) ::close(d);
  BOOST_REQUIRE(answers.size() == clients.size());
  for (std::size_t i = 0; i < answers.size(); ++i) {
    BOOST_TEST(status_of(answers[i]) == (i % 3 == 2 ? 503U : 200U), answers[i]);
  }
  call.writer->respond(200, {}, "unharmed");
  BOOST_TEST(body_of(busy.receive_response()) == "unharmed");
  BOOST_TEST(body_of(connect().ask(echo_request("again"))) == "again");
}

BOOST_FIXTURE_TEST_CASE(many_clients_at_once_get_their_own_answers, server_fixture) {
  options.threads = 3;
  start();
  std::atomic<int> wrong{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < 12; ++t) {
    clients.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        auto client = connect();
        for (int k = 0; k < 5; ++k) {
          const auto text = fmt::format("{}-{}-{}", t, i, k);
          if (body_of(client.ask(echo_request(text))) != text) ++wrong;
          if (body_of(client.ask(live_request)) != "live") ++wrong;
        }
      }
    });
  }
  for (auto& client : clients) client.join();
  BOOST_TEST(wrong.load() == 0);
  BOOST_TEST(front_end->statistics().requests_total == 12U * 20U * 10U);
}

BOOST_FIXTURE_TEST_CASE(streams_written_by_many_threads_stay_apart, server_fixture) {
  options.threads = 2;
  start();
  constexpr int streams = 8, pieces = 200;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < streams; ++t) {
    threads.emplace_back([&] {
      auto client = connect();
      client.send(wait_request);
      auto call = api.take();
      if (!call.writer) {
        ++wrong;
        return;
      }
      call.writer->begin_stream(200, {});
      // The writer belongs to some client, not necessarily this one.
      for (int i = 0; i < pieces; ++i) call.writer->write(fmt::format("<{:03}>", i));
      call.writer->end_stream();
      const auto answer = client.receive_through("\r\n0\r\n\r\n");
      std::size_t at = 0;
      for (int i = 0; i < pieces; ++i) {
        at = answer.find(fmt::format("<{:03}>", i), at);
        if (at == std::string::npos) {
          ++wrong;
          return;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  BOOST_TEST(wrong.load() == 0);
}

BOOST_FIXTURE_TEST_CASE(noise_over_sockets_harms_nobody_else, server_fixture) {
  start();
  std::mt19937 random{3};
  auto steady = connect();
  for (int i = 0; i < 300; ++i) {
    auto client = connect();
    std::string noise(random() % 2000 + 1, ' ');
    for (auto& byte : noise) byte = static_cast<char>(random());
    noise += "\r\n\r\n";
    client.send(noise);
    if (i % 3 != 0) {
      const auto answer = client.receive_response();
      BOOST_TEST((answer.empty() || status_of(answer) / 100 == 4U || status_of(answer) == 505U));
    }
    if (i % 10 == 0) BOOST_TEST(status_of(steady.ask(live_request)) == 200U);
  }
}

BOOST_AUTO_TEST_SUITE_END()
