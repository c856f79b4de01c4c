#pragma once

#include "http/openai/api_error.hpp"

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::http::openai {

/// Parses a request's body into an object. Refuses what is no JSON object, nests deeper than 32 or is longer
/// than `max_bytes` (413).
api_result<boost::json::value> parse_object(std::string_view body, std::size_t max_bytes);

/// Reads members of a JSON object into variables that hold the defaults. A member that is absent or null
/// leaves its variable alone. After the first wrong member the reader reads nothing more: look at `error` at
/// the end.
class object_reader {
 public:
  /// `prefix` goes before the members' names in errors: "messages[2].".
  explicit object_reader(const boost::json::object& object, std::string prefix = {});

  void boolean(std::string_view name, bool& out);
  void string(std::string_view name, std::string& out);
  /// In [min, max], both finite.
  void number(std::string_view name, double min, double max, float& out);
  /// In [min, max]; a number with a fraction of zero counts as an integer.
  void integer(std::string_view name, std::int64_t min, std::int64_t max, std::int64_t& out);
  template <class Unsigned>
  void count(std::string_view name, std::int64_t min, std::int64_t max, Unsigned& out) {
    std::int64_t value = static_cast<std::int64_t>(out);
    integer(name, min, max, value);
    out = static_cast<Unsigned>(value);
  }

  /// The member, or nullptr where it is absent, null, or an error was found before.
  const boost::json::value* find(std::string_view name) const;

  /// Keeps the first error.
  void fail(std::string_view name, std::string_view code, std::string_view message);
  void fail(api_error error);
  const std::optional<api_error>& error() const noexcept { return error_; }

 private:
  const boost::json::object& object_;
  std::string prefix_;
  std::optional<api_error> error_;
};

/// "a string", "an array", ...: for messages.
std::string_view kind_name(const boost::json::value& value) noexcept;

/// The value of a number without fraction, or nothing.
std::optional<std::int64_t> integral_value(const boost::json::value& value) noexcept;

/// All elements as token ids, or nothing where one is no integer in [0, 2^32).
std::optional<std::vector<std::uint32_t>> token_ids(const boost::json::array& array);

}  // namespace bitnet::http::openai
