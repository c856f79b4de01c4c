#pragma once

#include "config/server_config.hpp"

#include <tl/expected.hpp>

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace bitnet::config {

/// What the command line asks for besides serving.
enum class action : std::uint8_t { serve, show_help, show_version, dump_config };

struct command_line {
  action what = action::serve;
  server_config config;
};

/// Looks up an environment variable; nothing where unset.
using environment = std::function<std::optional<std::string>(const std::string& name)>;

environment process_environment();

/// Reads defaults, then the file, then the environment, then the flags (CAF's syntax: --key=value; a boolean
/// may stand alone), later ones winning. `arguments` excludes the program's name. The error is one line that
/// names the key and its origin and says what is allowed.
tl::expected<command_line, std::string> load(std::span<const std::string> arguments, const environment& env);

/// The whole configuration as a file that `load` reads back.
std::string dump(const server_config& config);

std::string help_text(std::string_view program);

}  // namespace bitnet::config
