#pragma once

#include "http/ports.hpp"
#include "http/server_options.hpp"

#include <tl/expected.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace bitnet::http {

/// The HTTP/1.1 front end: `threads` threads, each with its own io_context; a connection lives on one thread.
///
/// GET and HEAD of /health, /health/live, /health/ready and /metrics are copied from `probe_source`; the
/// routes in `server_options::routes` go to `api_service`; everything else gets an OpenAI error object.
///
/// A client that closes its side (FIN) while an API response is pending counts as gone: the exchange is
/// cancelled. A half-closed client cannot be told from one that left, and tokens for nobody are dear.
/// With TLS the process must ignore SIGPIPE. Pipelined requests are answered in order, one at a time; what
/// waits is bounded by the input buffer.
class server {
 public:
  /// Binds and starts. `probes` and `api` must outlive the server. The error is one sentence that names the
  /// address and says what to do.
  static tl::expected<std::unique_ptr<server>, std::string> start(server_options options,
                                                                  const probe_source& probes,
                                                                  api_service& api);

  /// stop(0).
  ~server();

  server(const server&) = delete;
  server& operator=(const server&) = delete;

  /// The port in use. Any thread.
  std::uint16_t port() const noexcept;

  /// What the HTTP threads got of server_options::priority; the least of them. Any thread.
  effective_priority priority() const noexcept;

  /// max_connections, lowered where RLIMIT_NOFILE is too small for it. Any thread.
  std::size_t connection_limit() const noexcept;

  /// Reads the API keys and the TLS certificate again. What cannot be used stays as it was, and the error
  /// says why; connections keep what they began with. One thread at a time.
  tl::expected<void, std::string> reload();

  /// Whether the API wants a key. Any thread.
  bool requires_key() const noexcept;

  /// Empty without TLS. Any thread.
  std::optional<std::chrono::system_clock::time_point> certificate_expires() const;

  /// From now on API responses carry "Connection: close", so that clients move elsewhere. Connections are
  /// still accepted and probes answered; whether API requests are refused is the api_service's to decide.
  /// Any thread; idempotent.
  void begin_drain() noexcept;

  /// Stops accepting, closes idle connections, lets exchanges go on for at most `grace`, then cancels and
  /// closes what is left and joins the threads. Blocks; not to be called from an HTTP thread (that is, from
  /// a port's method). Idempotent.
  void stop(std::chrono::milliseconds grace);

  /// Any thread.
  http_statistics statistics() const noexcept;

  /// For how long a thread has not got round to an empty task: the longest of all threads; 0 where all have
  /// done theirs. Gives each that has a new one, so a silence shows at the second call. One thread; never
  /// waits.
  std::chrono::milliseconds silence();

 private:
  struct state;
  explicit server(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

}  // namespace bitnet::http
