#include "actors/time_format.hpp"

#include <fmt/format.h>

#include <array>
#include <chrono>

namespace bitnet::actors {

namespace {

struct calendar_time {
  std::chrono::year_month_day date;
  std::chrono::weekday weekday;
  std::chrono::hh_mm_ss<std::chrono::milliseconds> time;
};

calendar_time to_calendar(wall_time time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  return {std::chrono::year_month_day{day}, std::chrono::weekday{day},
          std::chrono::hh_mm_ss{std::chrono::floor<std::chrono::milliseconds>(time - day)}};
}

}  // namespace

std::string format_rfc3339(wall_time time) {
  const auto c = to_calendar(time);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", int{c.date.year()},
                     unsigned{c.date.month()}, unsigned{c.date.day()}, c.time.hours().count(),
                     c.time.minutes().count(), c.time.seconds().count(), c.time.subseconds().count());
}

std::string format_http_date(wall_time time) {
  static constexpr std::array days{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const auto c = to_calendar(time);
  return fmt::format("{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT", days[c.weekday.c_encoding()],
                     unsigned{c.date.day()}, months[unsigned{c.date.month()} - 1], int{c.date.year()},
                     c.time.hours().count(), c.time.minutes().count(), c.time.seconds().count());
}

}  // namespace bitnet::actors
