#pragma once

#include "http/ports.hpp"
#include "http/router.hpp"

#include <tl/expected.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::http {

/// One finished exchange, for the access log. The views live as long as the call.
struct access_record {
  std::string_view remote_address;
  std::string_view method;
  std::string_view target;  ///< as sent, query included
  std::string_view request_id;
  unsigned status = 0;                    ///< 0: the client left before there was an answer
  std::uint64_t response_bytes = 0;       ///< of the body
  std::chrono::microseconds duration{0};  ///< from the complete request to the last byte produced
  bool completed = true;                  ///< false: cut off by the client, a time-out or a failure
};

/// Called on HTTP threads, possibly several at once; must return at once. Answered probes are not logged
/// (a probe a second and replica would be all that one reads); everything else is.
using access_log = std::function<void(const access_record&)>;

/// What bounds one connection. Times are checked about four times within the shortest of them, so that no
/// request pays for a timer of its own.
struct connection_limits {
  std::size_t header_bytes = 16 * 1024;              ///< request line and headers; more: 431
  std::size_t body_bytes = 4 * 1024 * 1024;          ///< more: 413, refused on Content-Length before reading
  std::size_t unsent_bytes = 8 * 1024 * 1024;        ///< of a stream; a client this far behind is cut
  std::chrono::milliseconds header_timeout{10'000};  ///< first byte to end of headers; then 408
  std::chrono::milliseconds body_timeout{30'000};    ///< end of headers to end of body; then 408
  std::chrono::milliseconds idle_timeout{75'000};    ///< between requests; then closed
  std::chrono::milliseconds write_timeout{30'000};   ///< the client takes nothing for so long; then cut
  std::chrono::milliseconds linger_timeout{1'000};   ///< after the last answer, for the client's FIN
};

struct server_options {
  std::string address = "127.0.0.1";  ///< IPv4 or IPv6 address, or "localhost"; "::" takes both families
  std::uint16_t port = 8080;          ///< 0: an ephemeral port, see server::port
  unsigned threads = 2;               ///< each with its own acceptor (SO_REUSEPORT) and connections
  /// Connections that may ask for anything. Lowered to what RLIMIT_NOFILE allows (server::connection_limit).
  /// Beyond it the longest-idle connection makes room; if none is idle, a new connection may only ask for the
  /// probes and gets 503 for the rest.
  std::size_t max_connections = 1024;
  std::size_t probe_reserve = 64;                      ///< connections beyond the cap, for probes only
  std::chrono::milliseconds eviction_idle_age{1'000};  ///< a connection idle for less never makes room
  connection_limits limits;
  std::vector<api_route> routes;
  access_log log;  ///< empty: none
};

/// The HTTP/1.1 front end: `threads` threads, each with its own io_context; a connection lives on one thread.
///
/// GET and HEAD of /health, /health/live, /health/ready and /metrics are copied from `probe_source`; the
/// routes in `server_options::routes` go to `api_service`; everything else gets an OpenAI error object.
///
/// A client that closes its side (FIN) while an API response is pending counts as gone: the exchange is
/// cancelled. A half-closed client cannot be told from one that left, and tokens for nobody are dear.
/// Pipelined requests are answered in order, one at a time; what waits is bounded by the input buffer.
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

  /// max_connections, lowered where RLIMIT_NOFILE is too small for it. Any thread.
  std::size_t connection_limit() const noexcept;

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

 private:
  struct state;
  explicit server(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

}  // namespace bitnet::http
