#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// What the HTTP front end needs of the rest of the server. No actor, engine or CAF type appears here: the
// composition root (apps/) implements these ports.

namespace bitnet::http {

using header_list = std::vector<std::pair<std::string, std::string>>;

/// The answers that are rendered when a snapshot is published, and copied when a probe asks.
enum class probe : std::uint8_t {
  health,
  live,
  ready,
  metrics,
  history,  ///< health and its history: /health?history=1
  events,   ///< the history alone: /health/events
};

/// The latest snapshot's answers. Called on HTTP threads.
class probe_source {
 public:
  virtual ~probe_source() = default;

  /// Appends the complete HTTP/1.1 answer (status line, headers, body; no body for HEAD, Content-Length as
  /// for GET) to `out`. Wait-free but for the copy: no lock, no message, no wait. Where the snapshot is too
  /// old, the answer says so with 503.
  virtual void append_answer(probe which, bool head, bool keep_alive, std::string& out) const = 0;
};

/// What a generation did, for the access log.
struct exchange_facts {
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  double first_token_ms = 0;  ///< since the request
};

/// One response being produced, by any thread. Calls after the client is gone are ignored. The first call
/// must be `respond` (a whole answer) or `begin_stream`.
class response_writer {
 public:
  virtual ~response_writer() = default;

  virtual void respond(unsigned status, header_list headers, std::string body) = 0;

  virtual void begin_stream(unsigned status, header_list headers) = 0;
  virtual void write(std::string bytes) = 0;
  virtual void end_stream() = 0;

  /// Before the response's end: adds to its line in the log.
  virtual void describe(const exchange_facts& facts) = 0;

  /// Bytes written but not yet taken by the client's socket; relaxed, for back-pressure.
  virtual std::size_t unsent_bytes() const noexcept = 0;
};

/// What an API route gets. Health, metrics and errors of the protocol never come here.
struct api_request {
  std::string method;  ///< "GET", "POST", ...
  std::string path;    ///< decoded, without query
  std::string query;
  std::string body;
  std::string request_id;  ///< the client's x-request-id, or one of ours
  std::string client;      ///< name of the API key; empty where none are configured
  std::string client_address;
};

/// An exchange that the API works on. Destroying the handle, or `cancel`, says that the client is gone.
class api_exchange {
 public:
  virtual ~api_exchange() = default;
  virtual void cancel() noexcept = 0;
};

/// The service behind /v1/*. `start` runs on an HTTP thread and must only hand over: parsing JSON, tokenising
/// and everything else that takes time happens elsewhere.
class api_service {
 public:
  virtual ~api_service() = default;
  virtual std::unique_ptr<api_exchange> start(api_request request,
                                              std::shared_ptr<response_writer> writer) = 0;
};

/// Counters of the front end: relaxed atomics behind, readable from any thread.
struct http_statistics {
  std::uint64_t connections_open = 0;
  std::uint64_t connections_total = 0;
  std::uint64_t connections_refused = 0;
  std::uint64_t requests_total = 0;  ///< all routes
  std::uint64_t protocol_errors_total = 0;
};

}  // namespace bitnet::http
