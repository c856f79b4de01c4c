#pragma once

#include "actors/health.hpp"
#include "actors/health_history.hpp"
#include "actors/snapshot_store.hpp"

#include <chrono>
#include <memory>
#include <string>

namespace bitnet::actors {

struct render_options {
  bool degraded_ok = false;  ///< /health answers 200 also when degraded; readiness never does
};

/// Answers of all probes but metrics, whose text the caller gives (metrics_render.hpp). `stamp` and
/// `grace_end` are left to the caller.
std::unique_ptr<rendered_snapshot> render(const health_snapshot& snapshot, const render_options& options,
                                          std::string metrics_text, const health_history& history);

/// The 503 of a reader who found no snapshot (`age` at its maximum) or too old a one. For /metrics a comment
/// instead of samples, so that a scrape fails rather than records old figures.
rendered_answer render_stale(probe which, std::chrono::nanoseconds age, wall_time now);

/// HTTP status of each probe; the events are always 200.
unsigned health_status_code(const health_snapshot& snapshot, const render_options& options) noexcept;
unsigned ready_status_code(const health_snapshot& snapshot) noexcept;
unsigned live_status_code(const health_snapshot& snapshot, bool in_grace) noexcept;

/// The body of GET /health.
std::string render_health_json(const health_snapshot& snapshot);

}  // namespace bitnet::actors
