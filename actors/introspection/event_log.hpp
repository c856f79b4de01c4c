#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

namespace bitnet::actors {

enum class event_level : std::uint8_t { trace, debug, info, warning, error, critical };

struct logged_event {
  std::uint64_t number = 0;  ///< counts from 1, so that a follower can ask for what is new
  std::chrono::system_clock::time_point time{};
  event_level level = event_level::info;
  std::string text;
};

/// The last lines of the log, for those who cannot see stderr. Any thread; a short lock at each call.
class event_log {
 public:
  explicit event_log(std::size_t kept = 1000, std::size_t kept_problems = 200)
      : kept_(kept), kept_problems_(kept_problems) {}

  void add(std::chrono::system_clock::time_point time, event_level level, std::string text);

  /// The newest `limit` after number `after`, oldest first.
  std::vector<logged_event> events(std::uint64_t after, std::size_t limit) const;
  /// Warnings and errors only; they are kept apart, so that chatter does not displace them.
  std::vector<logged_event> problems(std::uint64_t after, std::size_t limit) const;

 private:
  std::size_t kept_;
  std::size_t kept_problems_;
  mutable std::mutex mutex_;
  std::uint64_t last_ = 0;
  std::deque<logged_event> events_;
  std::deque<logged_event> problems_;
};

}  // namespace bitnet::actors
