#pragma once

#include "actors/health.hpp"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace bitnet::actors {

/// What happened to the health of the server: a ring of the last events, and counts of all. One thread.
class health_history {
 public:
  explicit health_history(std::size_t capacity = 128) : capacity_(capacity) {}

  /// Compares with the snapshot before: an event for each component whose status or code is another one, and
  /// one for the server. Returns the new events.
  std::vector<health_event> observe(const health_snapshot& snapshot);

  /// Something else than a transition, as of the last snapshot: a restart, a jump of the clock.
  const health_event& note(health_event event, const health_snapshot& snapshot);

  const std::deque<health_event>& events() const noexcept { return events_; }
  /// Older ones than those kept.
  std::uint64_t dropped() const noexcept { return recorded_ - events_.size(); }
  /// Since the start, by component and the status that it took.
  const std::map<std::pair<std::string, health_status>, std::uint64_t>& transitions() const noexcept {
    return transitions_;
  }
  /// Since the start, by code: events that were noted.
  const std::map<std::string, std::uint64_t>& noted() const noexcept { return noted_; }

  /// The events as a JSON array, oldest first.
  const std::string& json() const noexcept { return json_; }

 private:
  struct state {
    health_status status = health_status::unhealthy;
    std::string code;
  };

  void record(health_event event);
  void render();

  std::size_t capacity_;
  std::deque<health_event> events_;
  std::uint64_t recorded_ = 0;
  std::map<std::string, state> known_;  ///< by component
  std::map<std::pair<std::string, health_status>, std::uint64_t> transitions_;
  std::map<std::string, std::uint64_t> noted_;
  std::string json_ = "[]";
};

}  // namespace bitnet::actors
