#pragma once

#include "actors/introspection/event_log.hpp"
#include "actors/probes/process.hpp"
#include "config/server_config.hpp"

#include <memory>

namespace bitnet::apps {

/// Makes spdlog's default logger write to stderr from a thread of its own: a log call never waits for the
/// reader of stderr, it drops the oldest lines instead. The last lines are kept in `events`. Call once,
/// before other threads.
void start_logging(const config::server_config::log_section& config,
                   std::shared_ptr<actors::event_log> events);

/// What the log has lost since the start. Any thread, never blocks.
actors::log_reading read_log();

/// Writes what is queued and ends the thread.
void stop_logging();

}  // namespace bitnet::apps
