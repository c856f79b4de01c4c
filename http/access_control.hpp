#pragma once

#include "http/answer.hpp"
#include "http/ports.hpp"
#include "http/router.hpp"

#include <tl/expected.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::http {

struct access_options {
  std::string key_file;                   ///< empty: none. Lines of NAME KEY [admin]; # begins a comment
  std::string keys;                       ///< NAME:KEY[:admin],...
  std::uint64_t requests_per_minute = 0;  ///< of a key; up to a minute's worth at once. 0: no limit
  std::size_t max_concurrent = 0;         ///< of a key; 0: no limit
  std::string cors_origins;               ///< ORIGIN,... or *
};

/// What a key has in use. Shared by the key sets before and after a reload.
struct key_usage {
  std::atomic<std::size_t> active{0};
  /// When the bucket is empty again, nanoseconds of the steady clock (the generic cell rate algorithm).
  std::atomic<std::int64_t> busy_until{0};
};

/// A request that was let in; gives its place back at its end.
class admission {
 public:
  admission() = default;
  admission(std::shared_ptr<key_usage> usage, std::string name) noexcept
      : usage_{std::move(usage)}, name_{std::move(name)} {}
  admission(admission&&) noexcept = default;
  admission& operator=(admission&& other) noexcept;
  ~admission();

  /// Of the key; empty where no keys are configured.
  const std::string& name() const noexcept { return name_; }

 private:
  std::shared_ptr<key_usage> usage_;
  std::string name_;
};

struct access_refusal {
  protocol_error error;
  header_list headers;
};

/// Who may call the API, how often, and from which web pages. Probes never come here. Any thread.
class access_control {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  /// The error names the file and the line, never a key.
  static tl::expected<std::unique_ptr<access_control>, std::string> create(access_options options);
  ~access_control();

  /// Reads the key file again. Where it cannot be used the keys stay as they are. One thread at a time.
  tl::expected<void, std::string> reload();

  bool has_keys() const noexcept;

  /// Without keys everybody is one anonymous client. Keys are compared by their SHA-256, each with the whole
  /// of every known one, so that the time says nothing about them.
  tl::expected<admission, access_refusal> admit(const header_list& fields, route_access needed,
                                                time_point now);

  /// What a response to this request must carry for the web page that asks; empty for other clients.
  header_list cors_headers(const header_list& fields) const;

  /// True where the request asks whether a web page may call `path`'s route: `answer` is then what a 204
  /// carries.
  bool is_preflight(std::string_view method, const header_list& fields, header_list& answer) const;

 private:
  struct key {
    std::string name;
    bool admin = false;
    std::array<unsigned char, 32> digest{};
    std::shared_ptr<key_usage> usage;
  };
  using key_set = std::vector<key>;

  explicit access_control(access_options options);
  tl::expected<key_set, std::string> read_keys() const;
  static tl::expected<void, std::string> add(key_set& keys, std::string_view name, std::string_view secret,
                                             std::string_view role, const std::string& where);
  const key* find(const key_set& keys, std::string_view secret) const;
  std::shared_ptr<const key_set> keys() const noexcept { return std::atomic_load(&keys_); }
  tl::expected<admission, access_refusal> take_place(const std::shared_ptr<key_usage>& usage,
                                                     const std::string& name, time_point now) const;
  bool allows_origin(std::string_view origin) const;

  access_options options_;
  std::vector<std::string> origins_;
  bool any_origin_ = false;
  std::shared_ptr<const key_set> keys_;  ///< replaced as a whole, by atomic_store
  std::shared_ptr<key_usage> anonymous_ = std::make_shared<key_usage>();
};

}  // namespace bitnet::http
