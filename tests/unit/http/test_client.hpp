#pragma once

#include "http/unique_descriptor.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace bitnet::http::test {

/// A blocking client that gives up after a while, so that a server that hangs fails the test.
class test_client {
 public:
  explicit test_client(std::uint16_t port, int receive_buffer = 0)
      : socket_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
    if (receive_buffer != 0) {
      ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    }
    set_patience(std::chrono::seconds{20});
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }

  bool connected() const { return connected_; }

  void set_patience(std::chrono::milliseconds patience) {
    const timeval time{static_cast<time_t>(patience.count() / 1000),
                       static_cast<suseconds_t>(patience.count() % 1000 * 1000)};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
  }

  /// False where the connection is gone.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto n = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }

  /// Reads until `enough` says so of everything read and not yet taken; empty at EOF, reset or time-out
  /// before.
  template <class Predicate>
  std::string receive_until(Predicate&& enough) {
    for (;;) {
      if (const auto size = enough(std::string_view{received_}); size != 0) {
        auto taken = received_.substr(0, size);
        received_.erase(0, size);
        return taken;
      }
      if (!receive_some()) return {};
    }
  }

  /// One response with a Content-Length (or none: a header only).
  std::string receive_response(bool head = false) {
    return receive_until([head](std::string_view text) -> std::size_t {
      const auto end = text.find("\r\n\r\n");
      if (end == std::string_view::npos) return 0;
      const auto length = text.substr(0, end).find("Content-Length: ");
      const auto body =
          head || length == std::string_view::npos
              ? 0
              : std::stoul(std::string{text.substr(length + 16, text.find("\r\n", length) - length - 16)});
      return text.size() >= end + 4 + body ? end + 4 + body : 0;
    });
  }

  std::string receive_through(std::string_view mark) {
    return receive_until([mark](std::string_view text) -> std::size_t {
      const auto at = text.find(mark);
      return at == std::string_view::npos ? 0 : at + mark.size();
    });
  }

  std::string ask(std::string_view request) { return send(request) ? receive_response() : std::string{}; }

  /// Everything up to the server's FIN or reset. `closed` tells whether one came before patience ran out.
  std::string receive_all(bool& closed) {
    while (receive_some()) {
    }
    closed = closed_;
    return std::exchange(received_, {});
  }

  bool wait_for_close() {
    bool closed = false;
    receive_all(closed);
    return closed;
  }

  void shutdown_send() { ::shutdown(socket_.get(), SHUT_WR); }
  void close() { socket_.reset(); }
  int descriptor() const { return socket_.get(); }

 private:
  bool receive_some() {
    std::array<char, 65536> buffer;
    const auto n = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (n > 0) {
      received_.append(buffer.data(), static_cast<std::size_t>(n));
      return true;
    }
    closed_ = n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    return false;
  }

  unique_descriptor socket_;
  bool connected_ = false;
  std::string received_;
  bool closed_ = false;
};

}  // namespace bitnet::http::test
