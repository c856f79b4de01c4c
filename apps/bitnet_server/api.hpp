#pragma once

#include "actors/fault_injection.hpp"
#include "actors/introspection/stream_board.hpp"
#include "actors/service.hpp"
#include "apps/bitnet_server/request_counters.hpp"
#include "apps/bitnet_server/server_metrics.hpp"
#include "engine/generation.hpp"
#include "http/ports.hpp"
#include "http/router.hpp"

#include <atomic>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

namespace bitnet::apps {

/// The paths that api_dispatcher serves; those that break the server on purpose only `with_faults`.
std::vector<http::api_route> api_routes(bool with_faults, bool with_cluster);

/// What the actors behind the API share. Outlives them: the service ends every actor before it is destroyed.
struct api_context {
  api_context(actors::service& s, request_counters& c, server_metrics& m, std::chrono::milliseconds ping,
              std::shared_ptr<actors::stream_board> board)
      : service(s), counters(c), metrics(m), ping_period(ping), streams(std::move(board)) {}

  engine::request_id next_id() noexcept { return last_id.fetch_add(1, std::memory_order_relaxed) + 1; }

  actors::service& service;
  request_counters& counters;
  server_metrics& metrics;
  const std::chrono::milliseconds
      ping_period;  ///< a stream that is silent for so long gets a comment; 0: never
  std::shared_ptr<actors::stream_board> streams;
  std::atomic<engine::request_id> last_id{0};
};

/// Hands each API request to an actor of its own, where JSON is parsed and text tokenised.
class api_dispatcher : public http::api_service {
 public:
  /// `faults`: what POST /debug/faults may cause; null where api_routes() has no such route.
  api_dispatcher(actors::service& service, request_counters& counters, server_metrics& metrics,
                 std::chrono::milliseconds ping_period, std::shared_ptr<actors::stream_board> streams,
                 std::shared_ptr<actors::fault_injection> faults);

  std::unique_ptr<http::api_exchange> start(http::api_request request,
                                            std::shared_ptr<http::response_writer> writer) override;

 private:
  std::shared_ptr<api_context> context_;
  std::shared_ptr<actors::fault_injection> faults_;
};

}  // namespace bitnet::apps
