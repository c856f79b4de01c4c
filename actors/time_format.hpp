#pragma once

#include "actors/health.hpp"

#include <string>

namespace bitnet::actors {

// Neither function takes a lock: gmtime_r of glibc does, so calendar arithmetic is <chrono>'s.

/// RFC 3339, UTC, milliseconds: "2026-01-31T23:59:59.000Z".
std::string format_rfc3339(wall_time time);

/// The Date header of RFC 9110: "Sun, 06 Nov 1994 08:49:37 GMT".
std::string format_http_date(wall_time time);

}  // namespace bitnet::actors
