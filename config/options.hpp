#pragma once

#include "config/server_config.hpp"
#include "config/value.hpp"

#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace bitnet::config {

/// What a value looks like in the file: a wrong kind there is an error, not a conversion.
enum class value_kind : std::uint8_t { text, number, real, boolean, duration };

/// One setting: the flag --KEY=VALUE, the file's [section] key = value, the environment's BITNET_SECTION_KEY.
struct option {
  std::string key;  ///< "model" or "section.name"
  value_kind kind;
  std::string hint;  ///< what may stand for VALUE, for --help
  std::string help;
  std::function<parsed<void>(server_config&, std::string_view)> set;
  std::function<std::string(const server_config&)> get;  ///< as `set` reads it

  std::string environment_name() const;
  std::string_view section() const noexcept;  ///< empty for "model"
  std::string_view name() const noexcept;
};

/// All settings, grouped by section, in the order of help and documentation.
std::span<const option> options();

/// nullptr for an unknown key.
const option* find_option(std::string_view key);

}  // namespace bitnet::config
