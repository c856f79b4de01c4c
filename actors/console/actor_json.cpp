#include "actors/console/actor_json.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <fstream>
#include <utility>

namespace bitnet::actors {

namespace json = boost::json;

namespace {

std::string_view state_name(char letter) {
  switch (letter) {
    case 'R':
      return "running";
    case 'S':
      return "sleeping";
    case 'D':
      return "disk sleep";
    case 'T':
    case 't':
      return "stopped";
    default:
      return "ended";
  }
}

template <class Number>
std::optional<Number> parse_number(const std::string& text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

double milliseconds_of(std::int64_t ns) {
  return std::round(static_cast<double>(ns) / 1e3) / 1e3;
}

double tenths(double value) {
  return std::round(value * 10) / 10;
}

json::object to_json(const process_record& r) {
  return {{"id", r.id},
          {"parent", r.parent},
          {"name", r.name},
          {"age_seconds", tenths(static_cast<double>(r.age_ns) / 1e9)},
          {"incarnation", r.incarnation},
          {"restarts", r.incarnation - 1},
          {"supervised", r.supervised},
          {"last_error", r.last_error},
          {"depth", r.depth},
          {"high_water", r.high_water},
          {"enqueued", r.enqueued},
          {"done", r.done},
          {"rate", tenths(r.rate)},
          {"busy_percent", tenths(r.busy_percent)},
          {"handling_p99_ms", milliseconds_of(r.handling_p99_ns)},
          {"wait_p50_ms", milliseconds_of(r.waiting_p50_ns)},
          {"wait_p99_ms", milliseconds_of(r.waiting_p99_ns)},
          {"oldest_wait_ms", milliseconds_of(r.oldest_wait_ns)},
          {"now", to_string(r.current)},
          {"running_ms", milliseconds_of(r.running_ns)},
          {"thread", r.thread},
          {"suspect", r.suspect()}};
}

json::array recent_messages(const process_record& r) {
  json::array rows;
  for (const auto& message : r.last)
    rows.push_back({{"message", to_string(message.kind)},
                    {"took_ms", milliseconds_of(message.took_ns)},
                    {"ago_ms", milliseconds_of(message.ago_ns)}});
  return rows;
}

std::string why_suspect(const process_record& r) {
  const auto seconds = [](std::int64_t ns) { return static_cast<double>(ns) / 1e9; };
  const auto waiting =
      r.depth == 0 ? std::string()
                   : fmt::format("{} waiting, the first for {:.1f} s", r.depth, seconds(r.oldest_wait_ns));
  if (r.running_ns == 0)
    return fmt::format("{}; nobody takes it: the scheduler's threads are busy elsewhere", waiting);
  const auto state = thread_state(r.thread);
  return fmt::format("in {} for {:.1f} s on thread {}{}{}{}", to_string(r.current), seconds(r.running_ns),
                     r.thread, state.empty() ? "" : fmt::format(" ({})", state), waiting.empty() ? "" : "; ",
                     waiting);
}

std::string thread_state(std::int64_t thread) {
  if (thread == 0) return {};
  // "tid (name) S ...": the name may hold anything, its last parenthesis ends it.
  std::ifstream file(fmt::format("/proc/self/task/{}/stat", thread));
  std::string line;
  if (!std::getline(file, line)) return {};
  const auto end = line.rfind(") ");
  return end == std::string::npos || end + 2 >= line.size() ? std::string()
                                                            : std::string(state_name(line[end + 2]));
}

command_result refuse(std::string why) {
  command_result r;
  r.error = std::move(why);
  return r;
}

std::optional<std::uint64_t> number_option(const console_request& request, std::string_view name,
                                           std::uint64_t min, std::uint64_t max, std::uint64_t otherwise) {
  const auto text = request.option(name);
  if (!text) return otherwise;
  const auto value = parse_number<std::uint64_t>(*text);
  if (!value || *value < min || *value > max) return std::nullopt;
  return value;
}

std::optional<std::optional<std::chrono::nanoseconds>> seconds_option(const console_request& request,
                                                                      std::string_view name) {
  using maybe = std::optional<std::chrono::nanoseconds>;
  const auto text = request.option(name);
  if (!text) return std::optional<maybe>(maybe());
  const auto value = parse_number<double>(*text);
  if (!value || !(*value > 0) || *value > 1e6) return std::nullopt;
  return maybe(std::chrono::nanoseconds(static_cast<std::int64_t>(*value * 1e9)));
}

}  // namespace bitnet::actors
