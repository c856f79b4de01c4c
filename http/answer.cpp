#include "http/answer.hpp"

#include <boost/beast/http/status.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <iterator>

namespace bitnet::http {

namespace {

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return lower(x) == lower(y);
  });
}

bool is_framing(std::string_view name) {
  return equals_ignoring_case(name, "content-length") || equals_ignoring_case(name, "transfer-encoding") ||
         equals_ignoring_case(name, "connection") || equals_ignoring_case(name, "date");
}

bool breaks_lines(std::string_view text) {
  return text.find_first_of(std::string_view{"\r\n\0", 3}) != std::string_view::npos;
}

void append_field(std::string_view name, std::string_view value, std::string& out) {
  out += name;
  out += ": ";
  out += value;
  out += "\r\n";
}

/// The Date header's value (RFC 9110, 5.6.7), formatted once a second and thread.
std::string_view http_date() {
  static constexpr std::string_view days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::string_view months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  thread_local std::time_t cached_second = -1;
  thread_local std::string cached;
  const auto now = std::time(nullptr);
  if (now != cached_second) {
    std::tm utc{};
    gmtime_r(&now, &utc);
    // Not strftime: its names follow the locale.
    cached = fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", days[utc.tm_wday], utc.tm_mday,
                         months[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
    cached_second = now;
  }
  return cached;
}

std::string_view error_type(unsigned status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 503:
      return "unavailable_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

}  // namespace

bool allows_body(unsigned status) noexcept {
  return status >= 200 && status != 204 && status != 304;
}

void append_head(const response_head& head, std::string& out) {
  fmt::format_to(std::back_inserter(out), "HTTP/1.1 {} ", head.status);
  const auto reason = boost::beast::http::obsolete_reason(boost::beast::http::int_to_status(head.status));
  out.append(reason.data(), reason.size());
  out += "\r\n";
  append_field("Date", http_date(), out);
  bool has_type = false, has_cache_control = false, has_buffering = false, is_event_stream = false;
  for (const auto* const list : {head.headers, head.more_headers}) {
    if (list == nullptr) continue;
    for (const auto& [name, value] : *list) {
      if (is_framing(name) || breaks_lines(name) || breaks_lines(value)) continue;
      if (!head.request_id.empty() && equals_ignoring_case(name, "x-request-id")) continue;
      if (equals_ignoring_case(name, "content-type")) {
        has_type = true;
        is_event_stream = value.starts_with("text/event-stream");
      }
      has_cache_control = has_cache_control || equals_ignoring_case(name, "cache-control");
      has_buffering = has_buffering || equals_ignoring_case(name, "x-accel-buffering");
      append_field(name, value, out);
    }
  }
  const bool has_body = head.content_length.value_or(1) != 0;
  if (!has_type && has_body) append_field("Content-Type", "application/json", out);
  if (is_event_stream && !has_cache_control) append_field("Cache-Control", "no-cache", out);
  if (is_event_stream && !has_buffering) append_field("X-Accel-Buffering", "no", out);
  if (!head.request_id.empty()) append_field("x-request-id", head.request_id, out);
  if (head.content_length && allows_body(head.status)) {
    fmt::format_to(std::back_inserter(out), "Content-Length: {}\r\n", *head.content_length);
  }
  if (head.chunked) append_field("Transfer-Encoding", "chunked", out);
  if (!head.keep_alive) {
    append_field("Connection", "close", out);
  } else if (head.http_1_0) {
    append_field("Connection", "keep-alive", out);
  }
  out += "\r\n";
}

void append_chunk(std::string_view data, std::string& out) {
  if (data.empty()) return;
  fmt::format_to(std::back_inserter(out), "{:x}\r\n", data.size());
  out += data;
  out += "\r\n";
}

std::string error_body(const protocol_error& error) {
  const auto view = [](std::string_view text) { return boost::json::string_view{text.data(), text.size()}; };
  return boost::json::serialize(boost::json::value{{"error",
                                                    {{"message", view(error.message)},
                                                     {"type", view(error_type(error.status))},
                                                     {"param", nullptr},
                                                     {"code", view(error.code)}}}});
}

std::string printable(std::string_view text) {
  constexpr std::size_t longest = 128;
  std::string out{text.substr(0, longest)};
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  if (text.size() > longest) out += "...";
  return out;
}

}  // namespace bitnet::http
