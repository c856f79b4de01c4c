#pragma once

#include "actors/console/endpoint.hpp"
#include "actors/introspection/event_log.hpp"
#include "actors/introspection/stream_board.hpp"
#include "actors/service.hpp"
#include "config/server_config.hpp"

#include <tl/expected.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace bitnet::actors {
class command_dispatcher;
}

namespace bitnet::apps {

/// What bitnet-console talks to. Must end before the service stops.
class console_server {
 public:
  /// Null where the configuration turns it off, or where the default socket cannot be made (which is logged:
  /// the server serves without). Fails with a sentence where a socket or port that was asked for cannot be
  /// had. `http_port`: the one that the server listens on.
  static tl::expected<std::unique_ptr<console_server>, std::string> start(
      const config::server_config& config, std::uint16_t http_port, actors::service& service,
      std::shared_ptr<actors::event_log> events, std::shared_ptr<actors::stream_board> streams);
  ~console_server();

 private:
  console_server();
  std::unique_ptr<actors::command_dispatcher> dispatcher_;
  std::unique_ptr<console::endpoint> endpoint_;  // after what its thread uses
};

}  // namespace bitnet::apps
