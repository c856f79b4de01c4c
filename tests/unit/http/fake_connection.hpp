#pragma once

#include "fake_ports.hpp"
#include "http/connection.hpp"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::http::test {

inline std::vector<api_route> fake_routes() {
  return {{"GET", "/v1/models"},
          {"GET", "/v1/models/{id}"},
          {"POST", "/v1/completions"},
          {"POST", "/echo"},
          {"GET", "/echo"},
          {"GET", "/throw"},
          {"GET", "/drop"},
          {"GET", "/wait"}};
}

/// A connection without a socket: bytes go in and come out as strings, and time passes when the test says so.
struct fake_connection {
  explicit fake_connection(connection_limits l = {}, bool probes_only = false, access_options who = {})
      : limits{l}, access{access_control::create(std::move(who)).value()} {
    connection::origin origin;
    origin.remote_address = "192.0.2.1";
    origin.probes_only = probes_only;
    origin.wake = [this] { ++wakes; };
    log = [this](const access_record& r) {
      logged.push_back({std::string{r.method}, std::string{r.target}, std::string{r.request_id}, r.status,
                        r.response_bytes, r.completed});
    };
    protocol = std::make_unique<connection>(environment, std::move(origin), now);
  }

  struct log_entry {
    std::string method, target, request_id;
    unsigned status;
    std::uint64_t response_bytes;
    bool completed;
  };

  void send(std::string_view bytes) { protocol->receive(bytes, now); }

  /// What the connection wants to send now, all of it taken by the client.
  std::string take_output() {
    std::string taken;
    while (!protocol->output().empty()) {
      taken += protocol->output();
      protocol->sent(protocol->output().size(), now);
    }
    return taken;
  }

  std::string ask(std::string_view bytes) {
    send(bytes);
    protocol->collect(now);
    return take_output();
  }

  void pass(std::chrono::milliseconds time) {
    now += time;
    protocol->check_deadlines(now);
  }

  connection_limits limits;
  std::vector<api_route> routes = fake_routes();
  fake_probes probes;
  fake_api api;
  std::unique_ptr<access_control> access;
  thread_counters counters;
  std::atomic<bool> draining{false};
  std::vector<log_entry> logged;
  access_log log;
  std::atomic<int> wakes{0};
  connection::time_point now{std::chrono::hours{1}};
  connection_environment environment{limits, routes, probes, api, *access, log, counters, draining};
  std::unique_ptr<connection> protocol;
};

/// The status of the first response in `bytes`; 0 where there is none.
inline unsigned status_of(std::string_view bytes) {
  if (!bytes.starts_with("HTTP/1.1 ") || bytes.size() < 12) return 0;
  return static_cast<unsigned>(std::stoul(std::string{bytes.substr(9, 3)}));
}

/// Behind the first empty line.
inline std::string body_of(const std::string& bytes) {
  const auto end = bytes.find("\r\n\r\n");
  return end == std::string::npos ? std::string{} : bytes.substr(end + 4);
}

inline std::size_t count(std::string_view text, std::string_view part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

inline bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace bitnet::http::test
