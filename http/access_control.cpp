#include "http/access_control.hpp"

#include <fmt/format.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

namespace bitnet::http {

namespace {

constexpr std::size_t shortest_key = 16;
constexpr std::size_t longest_key_file = 4 * 1024 * 1024;

std::array<unsigned char, 32> digest_of(std::string_view secret) {
  std::array<unsigned char, 32> digest{};
  unsigned size = 0;
  EVP_Digest(secret.data(), secret.size(), digest.data(), &size, EVP_sha256(), nullptr);
  return digest;
}

std::string_view find_field(const header_list& fields, std::string_view name) {
  for (const auto& [field, value] : fields)
    if (field == name) return value;
  return {};
}

/// The credentials of "Bearer KEY" (RFC 6750, 2.1); the scheme's case does not matter.
std::string_view bearer_token(std::string_view authorization) {
  constexpr std::string_view scheme = "bearer ";
  if (authorization.size() <= scheme.size()) return {};
  for (std::size_t i = 0; i < scheme.size(); ++i)
    if ((authorization[i] | 0x20) != scheme[i]) return {};
  authorization.remove_prefix(scheme.size());
  while (authorization.starts_with(' ')) authorization.remove_prefix(1);
  return authorization;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

access_refusal unauthorized(std::string_view code, std::string message) {
  return {{401, code, std::move(message)}, {{"WWW-Authenticate", "Bearer"}}};
}

access_refusal too_many(std::string_view code, std::string message, std::int64_t wait_ns) {
  const auto seconds = std::max<std::int64_t>(1, (wait_ns + 999'999'999) / 1'000'000'000);
  return {{429, code, std::move(message)}, {{"Retry-After", std::to_string(seconds)}}};
}

/// Takes one request out of the bucket; or the nanoseconds until there is one.
std::int64_t take_request(std::atomic<std::int64_t>& busy_until, std::int64_t now, std::int64_t each,
                          std::int64_t bucket) {
  auto known = busy_until.load(std::memory_order_relaxed);
  for (;;) {
    const auto after = std::max(known, now) + each;
    if (after - now > bucket) return after - now - bucket;
    if (busy_until.compare_exchange_weak(known, after, std::memory_order_relaxed)) return 0;
  }
}

}  // namespace

admission::~admission() {
  if (usage_) usage_->active.fetch_sub(1, std::memory_order_relaxed);
}

admission& admission::operator=(admission&& other) noexcept {
  std::swap(usage_, other.usage_);
  std::swap(name_, other.name_);
  return *this;
}

access_control::access_control(access_options options) : options_{std::move(options)} {
  for (const auto part : split(options_.cors_origins, ',')) {
    const auto origin = trimmed(part);
    any_origin_ = any_origin_ || origin == "*";
    if (!origin.empty()) origins_.emplace_back(origin);
  }
}

access_control::~access_control() = default;

tl::expected<std::unique_ptr<access_control>, std::string> access_control::create(access_options options) {
  std::unique_ptr<access_control> made{new access_control{std::move(options)}};
  for (const auto& origin : made->origins_)
    if (origin != "*" && (origin.find("://") == std::string::npos || origin.ends_with('/')))
      return tl::unexpected(fmt::format(
          "access.cors-origins: '{}' is no origin; write scheme://host[:port] without a path, or *",
          printable(origin)));
  if (auto ok = made->reload(); !ok) return tl::unexpected(std::move(ok.error()));
  return made;
}

tl::expected<void, std::string> access_control::reload() {
  auto fresh = read_keys();
  if (!fresh) return tl::unexpected(std::move(fresh.error()));
  if (const auto old = keys(); old != nullptr) {
    for (auto& read : *fresh) {
      const auto same =
          std::find_if(old->begin(), old->end(), [&](const auto& k) { return k.name == read.name; });
      if (same != old->end()) read.usage = same->usage;
    }
  }
  std::atomic_store(&keys_, std::make_shared<const key_set>(std::move(*fresh)));
  return {};
}

bool access_control::has_keys() const noexcept {
  // A key file in which all keys are commented out lets nobody in, not everybody.
  return !options_.key_file.empty() || !keys()->empty();
}

tl::expected<void, std::string> access_control::add(key_set& keys, std::string_view name,
                                                    std::string_view secret, std::string_view role,
                                                    const std::string& where) {
  if (name.empty() || secret.empty() || (!role.empty() && role != "admin"))
    return tl::unexpected(where + ": expected a name, a key, and perhaps admin");
  if (secret.size() < shortest_key)
    return tl::unexpected(
        fmt::format("{}: the key of '{}' has fewer than {} characters; make one with openssl rand -hex 24",
                    where, printable(name), shortest_key));
  key added{std::string{name}, role == "admin", digest_of(secret), std::make_shared<key_usage>()};
  for (const auto& other : keys)
    if (other.name == added.name || other.digest == added.digest)
      return tl::unexpected(
          fmt::format("{}: the name or the key of '{}' is there twice", where, printable(name)));
  keys.push_back(std::move(added));
  return {};
}

tl::expected<access_control::key_set, std::string> access_control::read_keys() const {
  key_set keys;
  if (!options_.keys.empty()) {
    for (const auto entry : split(options_.keys, ',')) {
      const auto parts = split(trimmed(entry), ':');
      const bool fits = parts.size() == 2 || parts.size() == 3;
      if (auto ok = add(keys, parts[0], fits ? parts[1] : "", parts.size() == 3 ? parts[2] : "",
                        "access.keys (NAME:KEY[:admin],...)");
          !ok)
        return tl::unexpected(ok.error());
    }
  }
  if (options_.key_file.empty()) return keys;
  std::ifstream file{options_.key_file};
  if (!file)
    return tl::unexpected(
        fmt::format("access.key-file: cannot read {}: {}", options_.key_file, std::strerror(errno)));
  std::string line;
  std::size_t total = 0;
  for (std::size_t number = 1; std::getline(file, line); ++number) {
    total += line.size();
    if (total > longest_key_file)
      return tl::unexpected(fmt::format("access.key-file: {} is too large", options_.key_file));
    std::istringstream words{line.substr(0, line.find('#'))};
    std::string name, secret, role, rest;
    if (!(words >> name)) continue;
    words >> secret >> role >> rest;
    if (auto ok = add(keys, name, secret, rest.empty() ? role : rest,
                      fmt::format("access.key-file: {}, line {}", options_.key_file, number));
        !ok)
      return tl::unexpected(ok.error());
  }
  if (file.bad()) return tl::unexpected(fmt::format("access.key-file: reading {} failed", options_.key_file));
  return keys;
}

const access_control::key* access_control::find(const key_set& keys, std::string_view secret) const {
  const auto digest = digest_of(secret);
  const key* found = nullptr;
  for (const auto& candidate : keys)
    if (CRYPTO_memcmp(candidate.digest.data(), digest.data(), digest.size()) == 0) found = &candidate;
  return found;
}

tl::expected<admission, access_refusal> access_control::admit(const header_list& fields, route_access needed,
                                                              time_point now) {
  if (needed == route_access::open) return admission{};
  if (!has_keys()) return take_place(anonymous_, {}, now);
  const auto set = keys();
  const auto secret = bearer_token(find_field(fields, "authorization"));
  if (secret.empty())
    return tl::unexpected(unauthorized("missing_api_key", "Send your API key as Authorization: Bearer KEY."));
  const auto* const caller = find(*set, secret);
  if (caller == nullptr) return tl::unexpected(unauthorized("invalid_api_key", "This API key is not known."));
  if (needed == route_access::admin && !caller->admin)
    return tl::unexpected(
        access_refusal{{403, "admin_key_required", "Only an API key with the role admin may do this."}, {}});
  return take_place(caller->usage, caller->name, now);
}

tl::expected<admission, access_refusal> access_control::take_place(const std::shared_ptr<key_usage>& usage,
                                                                   const std::string& name,
                                                                   time_point now) const {
  // Counted first and taken back: threads race for the last place.
  const auto before = usage->active.fetch_add(1, std::memory_order_relaxed);
  admission place{usage, name};
  if (options_.max_concurrent != 0 && before >= options_.max_concurrent)
    return tl::unexpected(
        too_many("too_many_concurrent_requests",
                 fmt::format("{} requests of yours are in flight; wait for one to end.", before), 0));
  if (options_.requests_per_minute != 0) {
    constexpr std::int64_t minute = 60'000'000'000;
    const auto now_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now.time_since_epoch()).count();
    const auto each = minute / static_cast<std::int64_t>(options_.requests_per_minute);
    if (const auto wait = take_request(usage->busy_until, now_ns, each, minute); wait > 0)
      return tl::unexpected(
          too_many("rate_limit_exceeded",
                   fmt::format("You may send {} requests a minute; Retry-After says when the next.",
                               options_.requests_per_minute),
                   wait));
  }
  return place;
}

bool access_control::allows_origin(std::string_view origin) const {
  return !origin.empty() &&
         (any_origin_ || std::find(origins_.begin(), origins_.end(), origin) != origins_.end());
}

header_list access_control::cors_headers(const header_list& fields) const {
  header_list headers;
  if (origins_.empty()) return headers;
  // Caches must not give one origin the answer to another.
  headers.emplace_back("Vary", "Origin");
  const auto origin = find_field(fields, "origin");
  if (!allows_origin(origin)) return headers;
  headers.emplace_back("Access-Control-Allow-Origin", any_origin_ ? "*" : std::string{origin});
  headers.emplace_back("Access-Control-Expose-Headers", "x-request-id, retry-after");
  return headers;
}

bool access_control::is_preflight(std::string_view method, const header_list& fields,
                                  header_list& answer) const {
  if (method != "OPTIONS" || find_field(fields, "access-control-request-method").empty()) return false;
  if (!allows_origin(find_field(fields, "origin"))) return false;
  answer = cors_headers(fields);
  answer.emplace_back("Access-Control-Allow-Methods", "GET, POST, DELETE");
  // The official clients send headers of their own (x-stainless-*): what the page asks for is allowed.
  const auto wanted = find_field(fields, "access-control-request-headers");
  const bool plain = std::all_of(wanted.begin(), wanted.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  answer.emplace_back("Access-Control-Allow-Headers", wanted.empty() || !plain
                                                          ? "authorization, content-type, x-request-id"
                                                          : std::string{wanted});
  answer.emplace_back("Access-Control-Max-Age", "600");
  return true;
}

}  // namespace bitnet::http
