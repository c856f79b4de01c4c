#pragma once

#include "http/connection.hpp"
#include "http/http_thread.hpp"
#include "http/tls_stream.hpp"

#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace bitnet::http {

/// A connection and its socket; lives on its http_thread. Kept alive by its pending waits and by the
/// thread's list (through self_), until it closes.
class session : public std::enable_shared_from_this<session>, public session_link {
 public:
  /// `tls`: null for a plain connection.
  session(std::shared_ptr<http_thread> thread, http_thread::socket_type socket,
          std::shared_ptr<const tls_context> tls, bool probes_only);

  /// First, once: before anything else is called.
  void prepare(std::string remote_address);
  /// Second, once, when the session is in the thread's list: waits for input.
  void start() noexcept;

  const connection& protocol() const noexcept { return *connection_; }
  bool probes_only() const noexcept { return probes_only_; }

  /// Deadlines, missed wake-ups, clients that left while no input was wanted.
  void tick(http_thread::clock::time_point now) noexcept;
  void finish() noexcept;
  /// At once. Leaves the thread's list.
  void close() noexcept;

 private:
  template <class Action>
  void guarded(Action&& action) noexcept;
  struct transfer {
    enum class status { done, would_block, ended, failed } what;
    std::size_t size = 0;
  };
  transfer read(std::span<char> into);
  transfer write(std::string_view bytes);
  transfer translate(tls_stream::result result);
  void pump();
  void on_readable();
  void read_soon();
  void wait_readable();
  void wait_writable();
  bool client_has_left() const noexcept;

  std::shared_ptr<http_thread> thread_;
  http_thread::socket_type socket_;
  const bool probes_only_;
  std::shared_ptr<session> self_;
  std::unique_ptr<connection> connection_;
  std::unique_ptr<tls_stream> tls_;  ///< null: plain
  bool waiting_readable_ = false;
  bool waiting_writable_ = false;
  bool shut_down_ = false;
  bool closed_ = false;
};

}  // namespace bitnet::http
