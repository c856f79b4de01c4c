#pragma once

#include "http/ports.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace bitnet::http {

/// What a writer did, on its way to the connection.
struct response_event {
  enum class kind : std::uint8_t { respond, begin_stream, write, end_stream, describe, abandoned };
  kind what = kind::abandoned;
  unsigned status = 0;
  header_list headers;
  std::string bytes;
  exchange_facts facts;
  std::unique_ptr<response_event> next;
};

/// From an exchange's writer (any threads) to its connection (one HTTP thread). Lock-free: a preempted
/// writer cannot hold up the HTTP thread and the probes on it.
class response_channel {
 public:
  /// `wake` makes the connection call take() soon, on its own thread; called from any thread, and also after
  /// the connection is gone. May throw.
  explicit response_channel(std::function<void()> wake);
  ~response_channel();
  response_channel(const response_channel&) = delete;
  response_channel& operator=(const response_channel&) = delete;

  // Writer's side, any thread.
  void push(std::unique_ptr<response_event> event) noexcept;
  std::size_t unsent_bytes() const noexcept { return unsent_.load(std::memory_order_relaxed); }

  // Connection's side, one thread.

  /// Everything pushed since the last call, oldest first; null if nothing.
  std::unique_ptr<response_event> take() noexcept;
  void count_sent(std::size_t bytes) noexcept { unsent_.fetch_sub(bytes, std::memory_order_relaxed); }
  /// The client is gone: what is pushed from now on is dropped.
  void close() noexcept;

 private:
  std::atomic<response_event*> newest_{nullptr};
  std::atomic<std::size_t> unsent_{0};
  std::atomic<bool> closed_{false};
  std::function<void()> wake_;
};

/// A writer for `channel`. Destroyed before it has given a whole answer, it tells the connection so.
std::shared_ptr<response_writer> make_writer(std::shared_ptr<response_channel> channel);

}  // namespace bitnet::http
