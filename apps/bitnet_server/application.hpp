#pragma once

#include "config/server_config.hpp"

namespace bitnet::apps {

/// Builds every part of the server in order, serves until SIGTERM or SIGINT, drains and stops.
/// Returns the process's exit code: 0 after a drain, 1 where it could not start (the reason is on stderr).
/// Call once, from the main thread, before any other thread exists.
int serve(const config::server_config& config);

}  // namespace bitnet::apps
