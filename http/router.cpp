#include "http/router.hpp"

#include <boost/url/pct_string_view.hpp>

#include <algorithm>

namespace bitnet::http {

namespace {

struct probe_path {
  std::string_view path;
  probe which;
};

constexpr probe_path probe_paths[] = {{"/health", probe::health},
                                      {"/health/live", probe::live},
                                      {"/health/ready", probe::ready},
                                      {"/health/events", probe::events},
                                      {"/metrics", probe::metrics}};

bool is_control(char c) {
  const auto u = static_cast<unsigned char>(c);
  return u < 0x20 || u == 0x7f;
}

/// The segment in front of the next slash; `rest` loses it and the slash.
std::string_view take_segment(std::string_view& rest) {
  const auto slash = rest.find('/');
  const auto segment = rest.substr(0, slash);
  rest = slash == std::string_view::npos ? std::string_view{} : rest.substr(slash + 1);
  return segment;
}

bool matches(std::string_view pattern, std::string_view path) {
  if (pattern.empty() || path.empty() || pattern.front() != '/' || path.front() != '/') return false;
  pattern.remove_prefix(1);
  path.remove_prefix(1);
  for (;;) {
    const bool last = pattern.find('/') == std::string_view::npos;
    const auto expected = last ? pattern : take_segment(pattern);
    const bool wildcard = expected.size() >= 2 && expected.front() == '{' && expected.back() == '}';
    if (last) return wildcard ? !path.empty() : path == expected;
    if (path.find('/') == std::string_view::npos) return false;
    const auto segment = take_segment(path);
    if (wildcard ? segment.empty() : segment != expected) return false;
  }
}

}  // namespace

bool parse_target(std::string_view target, request_target& out) {
  if (!target.empty() && target.front() != '/' && target != "*") {
    // Absolute form: what is behind the authority.
    const auto scheme = target.find("://");
    if (scheme == std::string_view::npos || scheme == 0) return false;
    const auto authority = target.substr(scheme + 3);
    const auto path = authority.find_first_of("/?#");
    if (path == 0 || authority.empty()) return false;
    target = path == std::string_view::npos ? std::string_view{"/"} : authority.substr(path);
  }
  if (target.empty() || target.find('#') != std::string_view::npos) return false;
  const auto mark = target.find('?');
  const auto raw = target.substr(0, mark);
  out.query = mark == std::string_view::npos ? std::string{} : std::string{target.substr(mark + 1)};
  const auto encoded = boost::urls::make_pct_string_view(boost::core::string_view{raw.data(), raw.size()});
  if (!encoded) return false;
  out.path = raw.empty() ? std::string{"/"} : encoded->decode();
  return std::none_of(out.path.begin(), out.path.end(), is_control);
}

probe with_query(probe which, std::string_view query) {
  if (which != probe::health) return which;
  while (!query.empty()) {
    const auto end = query.find('&');
    if (query.substr(0, end) == "history=1") return probe::history;
    query = end == std::string_view::npos ? std::string_view{} : query.substr(end + 1);
  }
  return which;
}

route_decision route(const std::vector<api_route>& routes, std::string_view method, std::string_view path) {
  using namespace route_result;
  for (const auto& candidate : probe_paths) {
    if (candidate.path != path) continue;
    if (method == "GET") return probe_route{candidate.which, false};
    if (method == "HEAD") return probe_route{candidate.which, true};
    return method_not_allowed{"GET, HEAD", true};
  }
  std::string allow;
  const auto add = [&](std::string_view name) {
    if (!allow.empty()) allow += ", ";
    allow += name;
  };
  for (const auto& candidate : routes) {
    if (!matches(candidate.pattern, path)) continue;
    if (candidate.method == method || (method == "HEAD" && candidate.method == "GET"))
      return api{candidate.access};
    add(candidate.method);
    if (candidate.method == "GET") add("HEAD");
  }
  if (allow.empty()) return not_found{};
  return method_not_allowed{std::move(allow), false};
}

}  // namespace bitnet::http
