#include "actors/introspection/event_log.hpp"

#include <algorithm>
#include <utility>

namespace bitnet::actors {

namespace {

constexpr std::size_t max_text = 2048;  // a line of the log can hold a client's words

std::vector<logged_event> newest(const std::deque<logged_event>& from, std::uint64_t after,
                                 std::size_t limit) {
  auto first =
      std::find_if(from.begin(), from.end(), [after](const logged_event& e) { return e.number > after; });
  if (static_cast<std::size_t>(from.end() - first) > limit)
    first = from.end() - static_cast<std::ptrdiff_t>(limit);
  return {first, from.end()};
}

}  // namespace

void event_log::add(std::chrono::system_clock::time_point time, event_level level, std::string text) {
  if (text.size() > max_text) text.resize(max_text);
  const std::lock_guard lock(mutex_);
  logged_event event{++last_, time, level, std::move(text)};
  if (level >= event_level::warning) {
    problems_.push_back(event);
    if (problems_.size() > kept_problems_) problems_.pop_front();
  }
  events_.push_back(std::move(event));
  if (events_.size() > kept_) events_.pop_front();
}

std::vector<logged_event> event_log::events(std::uint64_t after, std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  return newest(events_, after, limit);
}

std::vector<logged_event> event_log::problems(std::uint64_t after, std::size_t limit) const {
  const std::lock_guard lock(mutex_);
  return newest(problems_, after, limit);
}

}  // namespace bitnet::actors
