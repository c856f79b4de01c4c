#pragma once

#include <tl/expected.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct ssl_ctx_st;
struct ssl_st;

namespace bitnet::http {

/// A certificate chain with its key, ready for connections. Immutable; shared by the connections that began
/// with it.
class tls_context {
 public:
  /// PEM files. The error is one sentence that names the file.
  static tl::expected<std::shared_ptr<const tls_context>, std::string> load(const std::string& certificate,
                                                                            const std::string& key);
  ~tls_context();
  tls_context(const tls_context&) = delete;
  tls_context& operator=(const tls_context&) = delete;

  ssl_ctx_st* get() const noexcept { return context_; }
  /// The end of the certificate's validity.
  std::chrono::system_clock::time_point expires() const noexcept { return expires_; }

 private:
  explicit tls_context(ssl_ctx_st* context) noexcept : context_{context} {}
  ssl_ctx_st* context_;
  std::chrono::system_clock::time_point expires_{};
};

/// The server's side of TLS on a non-blocking socket. The handshake happens inside the first reads.
class tls_stream {
 public:
  enum class status { done, want_read, want_write, ended, failed };
  struct result {
    status what;
    std::size_t size = 0;  ///< with done
  };

  /// Throws std::bad_alloc. The process must ignore SIGPIPE: OpenSSL writes without MSG_NOSIGNAL. The socket
  /// stays the caller's.
  tls_stream(std::shared_ptr<const tls_context> context, int socket);
  ~tls_stream();
  tls_stream(const tls_stream&) = delete;
  tls_stream& operator=(const tls_stream&) = delete;

  result read(std::span<char> into) noexcept;
  result write(std::string_view bytes) noexcept;
  /// Tells the client that nothing follows, as far as the socket takes it at once.
  void finish() noexcept;
  /// Bytes that came off the socket already: no readiness announces them.
  bool has_pending() const noexcept;

 private:
  result judge(int returned) noexcept;

  std::shared_ptr<const tls_context> context_;
  ssl_st* ssl_;
  bool broken_ = false;
};

}  // namespace bitnet::http
