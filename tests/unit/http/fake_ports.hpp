#pragma once

#include "http/ports.hpp"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace bitnet::http::test {

/// Probes with fixed answers: the body is the probe's name.
class fake_probes final : public probe_source {
 public:
  void append_answer(probe which, bool head, bool keep_alive, std::string& out) const override {
    static constexpr std::string_view names[] = {"health", "live", "ready", "metrics", "history", "events"};
    const auto body = names[static_cast<std::size_t>(which)];
    const bool unavailable = which == probe::ready && !ready.load();
    out += fmt::format("HTTP/1.1 {}\r\nCache-Control: no-store\r\nContent-Length: {}\r\n{}\r\n",
                       unavailable ? "503 Service Unavailable" : "200 OK", body.size(),
                       keep_alive ? "" : "Connection: close\r\n");
    if (!head) out += body;
  }

  std::atomic<bool> ready{true};
};

/// Keeps requests and writers for the test to answer, and counts cancellations. Thread-safe.
class fake_api final : public api_service {
 public:
  struct call {
    api_request request;
    std::shared_ptr<response_writer> writer;
  };

  std::unique_ptr<api_exchange> start(api_request request, std::shared_ptr<response_writer> writer) override {
    const auto path = request.path;
    if (path == "/throw") throw std::runtime_error{"the API fails"};
    if (path == "/echo") {
      writer->respond(200, {{"Content-Type", "text/plain"}}, request.body);
    } else if (path != "/drop") {
      const std::lock_guard lock{mutex_};
      calls_.push_back({std::move(request), std::move(writer)});
      arrived_.notify_all();
    }
    return std::make_unique<exchange>(*this);
  }

  /// Waits for the oldest call that has not been taken; fails the test's expectations by an empty writer.
  call take(std::chrono::milliseconds patience = std::chrono::seconds{20}) {
    std::unique_lock lock{mutex_};
    if (!arrived_.wait_for(lock, patience, [&] { return !calls_.empty(); })) return {};
    auto first = std::move(calls_.front());
    calls_.erase(calls_.begin());
    return first;
  }

  /// Waits until `count` exchanges have been cancelled.
  bool wait_for_cancellations(int count, std::chrono::milliseconds patience = std::chrono::seconds{20}) {
    std::unique_lock lock{mutex_};
    return arrived_.wait_for(lock, patience, [&] { return cancelled_ >= count; });
  }

  int cancellations() {
    const std::lock_guard lock{mutex_};
    return cancelled_;
  }

 private:
  class exchange final : public api_exchange {
   public:
    explicit exchange(fake_api& api) : api_{api} {}
    void cancel() noexcept override {
      const std::lock_guard lock{api_.mutex_};
      ++api_.cancelled_;
      api_.arrived_.notify_all();
    }

   private:
    fake_api& api_;
  };

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<call> calls_;
  int cancelled_ = 0;
};

}  // namespace bitnet::http::test
