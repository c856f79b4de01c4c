#pragma once

#include "apps/bitnet_server/front_end_watch.hpp"
#include "config/server_config.hpp"

#include <string>

namespace bitnet::actors {
class service;
}
namespace bitnet::http {
class server;
}

namespace bitnet::apps {

/// Reports the component `http`, and `access` where there are keys or a certificate: whether they are in
/// force as they are on disk. One thread, to call report() once a second.
class front_end_health {
 public:
  front_end_health(actors::service& service, http::server& server, const config::server_config& config);

  /// Reads keys and certificate again (SIGHUP).
  void reload();
  void report();

 private:
  void report_access();

  actors::service& service_;
  http::server& server_;
  bool has_access_;
  std::string problem_;  ///< of the last reload; empty: none
  front_end_watch watch_;
};

}  // namespace bitnet::apps
