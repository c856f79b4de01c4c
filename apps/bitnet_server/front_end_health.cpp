#include "apps/bitnet_server/front_end_health.hpp"

#include "actors/service.hpp"
#include "http/server.hpp"

#include <spdlog/spdlog.h>

#include <utility>

namespace bitnet::apps {

using actors::health_status;

front_end_health::front_end_health(actors::service& service, http::server& server,
                                   const config::server_config& config)
    : service_(service),
      server_(server),
      has_access_(!config.http.tls_certificate.empty() || !config.access.key_file.empty()) {}

void front_end_health::reload() {
  const auto done = server_.reload();
  problem_ = done ? std::string{} : done.error();
  if (done)
    spdlog::info("SIGHUP: API keys and certificate are read again");
  else
    spdlog::error("SIGHUP: {}; what was in force stays so", problem_);
}

void front_end_health::report() {
  const auto counted = server_.statistics();
  service_.report(watch_.judge(
      {server_.silence(), counted.connections_open, server_.connection_limit(), counted.connections_refused},
      std::chrono::steady_clock::now()));
  if (has_access_) report_access();
}

void front_end_health::report_access() {
  actors::component_report r;
  r.component = "access";
  r.status = health_status::healthy;
  r.period_ns = front_end_watch::period_ns;
  r.message = "keys and certificate are in force as they are on disk";
  if (const auto end = server_.certificate_expires(); end && *end <= std::chrono::system_clock::now()) {
    r.status = health_status::degraded;
    r.code = "certificate_expired";
    r.message = "the TLS certificate has expired: replace http.tls-certificate and send SIGHUP";
  }
  if (!problem_.empty()) {
    r.status = health_status::degraded;
    r.code = "reload_failed";
    r.message = problem_ + "; what was in force before stays so";
  }
  service_.report(std::move(r));
}

}  // namespace bitnet::apps
