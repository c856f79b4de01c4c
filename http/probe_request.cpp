#include "http/probe_request.hpp"

#include <array>
#include <cstring>

namespace bitnet::http {

namespace {

/// Token characters of a header name (RFC 9110, 5.6.2), folded to lower case; 0 for every other octet.
constexpr std::array<char, 256> make_token_table() {
  std::array<char, 256> table{};
  for (char c = '0'; c <= '9'; ++c) table[static_cast<unsigned char>(c)] = c;
  for (char c = 'a'; c <= 'z'; ++c) {
    table[static_cast<unsigned char>(c)] = c;
    table[static_cast<unsigned char>(c - 'a' + 'A')] = c;
  }
  for (const char c : {'!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~'}) {
    table[static_cast<unsigned char>(c)] = c;
  }
  return table;
}

constexpr auto token_table = make_token_table();

bool equals_lower(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (token_table[static_cast<unsigned char>(text[i])] != lower[i]) return false;
  }
  return true;
}

std::string_view trim(std::string_view value) {
  while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
  while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
  return value;
}

bool is_plain_value(std::string_view value) {
  for (const char c : value) {
    const auto u = static_cast<unsigned char>(c);
    if ((u < 0x20 && u != '\t') || u == 0x7f) return false;
  }
  return true;
}

bool consume(std::string_view& input, std::string_view prefix) {
  if (!input.starts_with(prefix)) return false;
  input.remove_prefix(prefix.size());
  return true;
}

bool parse_request_line(std::string_view& rest, probe_request& out) {
  if (consume(rest, "GET /")) {
    out.head = false;
  } else if (consume(rest, "HEAD /")) {
    out.head = true;
  } else {
    return false;
  }
  if (consume(rest, "health/live HTTP/1.1\r\n")) {
    out.which = probe::live;
  } else if (consume(rest, "health/ready HTTP/1.1\r\n")) {
    out.which = probe::ready;
  } else if (consume(rest, "health HTTP/1.1\r\n")) {
    out.which = probe::health;
  } else if (consume(rest, "metrics HTTP/1.1\r\n")) {
    out.which = probe::metrics;
  } else {
    return false;
  }
  return true;
}

/// False where the header needs the general parser.
bool accept_header(std::string_view name, std::string_view value, probe_request& out, unsigned& hosts) {
  switch (token_table[static_cast<unsigned char>(name.front())]) {
    case 'h':
      if (equals_lower(name, "host")) ++hosts;
      return true;
    case 'c':
      if (equals_lower(name, "content-length")) return false;
      if (equals_lower(name, "connection")) {
        if (equals_lower(value, "close")) {
          out.keep_alive = false;
        } else if (!equals_lower(value, "keep-alive")) {
          return false;
        }
      }
      return true;
    case 't':
      return !equals_lower(name, "transfer-encoding") && !equals_lower(name, "te") &&
             !equals_lower(name, "trailer");
    case 'e':
      return !equals_lower(name, "expect");
    case 'u':
      return !equals_lower(name, "upgrade");
    case 'p':
      return !equals_lower(name, "proxy-connection");
    default:
      return true;
  }
}

}  // namespace

std::size_t parse_probe_request(std::string_view input, probe_request& out) noexcept {
  auto rest = input;
  out.keep_alive = true;
  if (!parse_request_line(rest, out)) return 0;
  unsigned hosts = 0;
  for (;;) {
    if (rest.size() < 2) return 0;
    if (rest.front() == '\r') {
      if (rest[1] != '\n' || hosts != 1) return 0;
      return input.size() - rest.size() + 2;
    }
    std::size_t colon = 0;
    while (colon < rest.size() && token_table[static_cast<unsigned char>(rest[colon])] != 0) ++colon;
    if (colon == 0 || colon == rest.size() || rest[colon] != ':') return 0;
    const auto* const line_end = static_cast<const char*>(std::memchr(rest.data(), '\r', rest.size()));
    if (line_end == nullptr || line_end + 1 == rest.data() + rest.size() || line_end[1] != '\n') return 0;
    const auto line_length = static_cast<std::size_t>(line_end - rest.data());
    if (line_length < colon) return 0;
    const auto value = trim(rest.substr(colon + 1, line_length - colon - 1));
    if (!is_plain_value(value) || !accept_header(rest.substr(0, colon), value, out, hosts)) return 0;
    rest.remove_prefix(line_length + 2);
    // A folded line (RFC 9112, 5.2) starts with a blank: not a token, so the next turn leaves it to the
    // parser.
  }
}

}  // namespace bitnet::http
