#pragma once

#include "fake_connection.hpp"
#include "fake_ports.hpp"
#include "http/server.hpp"
#include "test_client.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace bitnet::http::test {

/// A server on an ephemeral port, with fake ports behind it.
struct server_fixture {
  server_fixture() {
    options.port = 0;
    options.threads = 1;
    options.routes = fake_routes();
    options.log = [this](const access_record& record) {
      const std::lock_guard lock{mutex};
      logged_statuses.push_back(record.status);
    };
  }

  void start() {
    auto started = server::start(options, probes, api);
    if (!started) throw std::runtime_error{started.error()};
    front_end = std::move(*started);
  }

  test_client connect(int receive_buffer = 0) const { return test_client{front_end->port(), receive_buffer}; }

  std::vector<unsigned> logged() {
    const std::lock_guard lock{mutex};
    return logged_statuses;
  }

  fake_probes probes;
  fake_api api;
  server_options options;
  std::mutex mutex;
  std::vector<unsigned> logged_statuses;
  std::unique_ptr<server> front_end;
};

/// Polls for what another thread is about to do.
inline bool eventually(const std::function<bool()>& condition,
                       std::chrono::milliseconds patience = std::chrono::seconds{20}) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  return true;
}

inline const std::string live_request = "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n";
inline const std::string ready_request = "GET /health/ready HTTP/1.1\r\nHost: a\r\n\r\n";
inline const std::string wait_request = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";

inline std::string echo_request(std::string_view body) {
  return fmt::format("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{}", body.size(), body);
}

}  // namespace bitnet::http::test
