#pragma once

#include "http/access_control.hpp"
#include "http/router.hpp"
#include "http/thread_priority.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
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
  std::string_view client;                ///< name of the API key; empty: none
  unsigned status = 0;                    ///< 0: the client left before there was an answer
  std::uint64_t response_bytes = 0;       ///< of the body
  std::chrono::microseconds duration{0};  ///< from the complete request to the last byte produced
  exchange_facts facts;                   ///< all 0 for what generates nothing
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
  /// `automatic` takes real time where the process may: work on these threads is short, and a probe that
  /// waits for a core says nothing of the server.
  thread_priority priority = thread_priority::normal;
  /// Connections that may ask for anything. Lowered to what RLIMIT_NOFILE allows (server::connection_limit).
  /// Beyond it the longest-idle connection makes room; if none is idle, a new connection may only ask for the
  /// probes and gets 503 for the rest.
  std::size_t max_connections = 1024;
  std::size_t probe_reserve = 64;                      ///< connections beyond the cap, for probes only
  std::chrono::milliseconds eviction_idle_age{1'000};  ///< a connection idle for less never makes room
  connection_limits limits;
  std::vector<api_route> routes;
  access_options access;
  std::string tls_certificate;  ///< PEM file; empty: plain HTTP
  std::string tls_key;
  access_log log;  ///< empty: none
};

}  // namespace bitnet::http
