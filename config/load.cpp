#include "config/load.hpp"

#include "config/options.hpp"

#include <caf/actor_system_config.hpp>
#include <caf/config_value.hpp>
#include <caf/settings.hpp>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <vector>

namespace bitnet::config {

namespace {

using status = tl::expected<void, std::string>;

/// The known key closest to `key`, as a hint after a typing error; empty where none is near.
std::string nearest_key(std::string_view key) {
  const auto distance = [](std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i;
      for (std::size_t j = 1; j <= b.size(); ++j) {
        const std::size_t previous = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
        diagonal = previous;
      }
    }
    return row[b.size()];
  };
  std::string best;
  std::size_t best_distance = 4;
  for (const auto& option : options()) {
    const auto d = distance(key.substr(0, 100), option.key);
    if (d < best_distance) {
      best_distance = d;
      best = option.key;
    }
  }
  return best;
}

std::string unknown_key(std::string_view origin, std::string_view key) {
  const auto near = nearest_key(key);
  return fmt::format("{}: unknown key '{}'{}; --help lists all", origin, key,
                     near.empty() ? "" : fmt::format(", did you mean '{}'?", near));
}

status apply(server_config& config, const option& option, std::string_view text, std::string_view origin) {
  return option.set(config, text).map_error([&](const std::string& problem) {
    return fmt::format("{}: {} {}", origin, option.key, problem);
  });
}

// --- file
// ------------------------------------------------------------------------------------------------------

std::string_view describe(value_kind kind) {
  switch (kind) {
    case value_kind::text:
      return "a \"quoted\" text";
    case value_kind::number:
      return "a whole number";
    case value_kind::real:
      return "a number";
    case value_kind::boolean:
      return "true or false";
    case value_kind::duration:
      return "a duration such as 500ms, 5s or 2min";
  }
  return "";
}

/// The text that `option.set` reads, where `value` has the right kind.
std::optional<std::string> file_text(const caf::config_value& value, value_kind kind) {
  switch (kind) {
    case value_kind::text:
      if (auto text = caf::get_if<std::string>(&value)) return *text;
      return std::nullopt;
    case value_kind::number:
      if (auto number = caf::get_if<caf::config_value::integer>(&value)) return std::to_string(*number);
      return std::nullopt;
    case value_kind::real:
      if (auto real = caf::get_if<caf::config_value::real>(&value)) return fmt::format("{}", *real);
      return file_text(value, value_kind::number);
    case value_kind::boolean:
      if (auto flag = caf::get_if<bool>(&value)) return *flag ? "true" : "false";
      return std::nullopt;
    case value_kind::duration:
      if (auto span = caf::get_if<caf::timespan>(&value))
        return fmt::format("{}ms", std::chrono::duration_cast<std::chrono::milliseconds>(*span).count());
      return std::nullopt;
  }
  return std::nullopt;
}

status apply_settings(server_config& config, const caf::settings& values, const std::string& prefix,
                      std::string_view origin) {
  for (const auto& [name, value] : values) {
    // CAF files keys outside any section under "global".
    if (prefix.empty() && name == "global") {
      if (auto nested = caf::get_if<caf::settings>(&value)) {
        if (auto ok = apply_settings(config, *nested, "", origin); !ok) return ok;
        continue;
      }
    }
    const std::string key = prefix + std::string{name.data(), name.size()};
    if (auto nested = caf::get_if<caf::settings>(&value)) {
      if (auto ok = apply_settings(config, *nested, key + ".", origin); !ok) return ok;
      continue;
    }
    const auto* option = find_option(key);
    if (option == nullptr) return tl::unexpected(unknown_key(origin, key));
    const auto text = file_text(value, option->kind);
    if (!text) return tl::unexpected(fmt::format("{}: {} must be {}", origin, key, describe(option->kind)));
    if (auto ok = apply(config, *option, *text, origin); !ok) return ok;
  }
  return {};
}

status apply_file(server_config& config, const std::string& path) {
  std::ifstream file{path};
  if (!file) return tl::unexpected(fmt::format("config file '{}' cannot be read; check --config-file", path));
  const auto values = caf::actor_system_config::parse_config(file);
  if (!values)
    return tl::unexpected(fmt::format(
        "config file '{}' is not in CAF's INI syntax ({}); bitnet-server --dump-config prints a valid one",
        path, caf::to_string(values.error().context())));
  return apply_settings(config, *values, "", path);
}

// --- environment
// -------------------------------------------------------------------------------------------------

status apply_environment(server_config& config, const environment& env) {
  for (const auto& option : options()) {
    const auto name = option.environment_name();
    const auto text = env(name);
    if (!text) continue;
    auto ok = apply(config, option, *text, "environment " + name);
    if (ok) continue;
    // Kubernetes sets such variables for every Service in the namespace ("docker links").
    if (text->starts_with("tcp://"))
      return tl::unexpected(ok.error() +
                            "; a Kubernetes Service sets it: use enableServiceLinks: false in the pod");
    return ok;
  }
  return {};
}

// --- flags
// -------------------------------------------------------------------------------------------------------

struct flag {
  std::string key;
  std::optional<std::string> value;
};

tl::expected<flag, std::string> split_flag(const std::string& argument) {
  if (!argument.starts_with("--") || argument.size() == 2)
    return tl::unexpected(
        fmt::format("command line: unexpected argument '{}'; options have the form --key=value", argument));
  const auto equals = argument.find('=');
  if (equals == std::string::npos) return flag{argument.substr(2), std::nullopt};
  return flag{argument.substr(2, equals - 2), argument.substr(equals + 1)};
}

status apply_flag(server_config& config, const flag& f) {
  const auto* option = find_option(f.key);
  if (option == nullptr) return tl::unexpected(unknown_key("command line", f.key));
  if (!f.value && option->kind != value_kind::boolean)
    return tl::unexpected(fmt::format("command line: {} needs a value: --{}={}", f.key, f.key, option->hint));
  return apply(config, *option, f.value.value_or("true"), "command line");
}

status check_consistency(const server_config& config) {
  if (config.health.memory_degraded_percent >= config.health.memory_unhealthy_percent)
    return tl::unexpected(fmt::format(
        "health.memory-degraded-percent ({}) must be less than health.memory-unhealthy-percent ({})",
        config.health.memory_degraded_percent, config.health.memory_unhealthy_percent));
  if (config.http.tls_certificate.empty() != config.http.tls_key.empty())
    return tl::unexpected(std::string{
        "http.tls-certificate and http.tls-key belong together: set both, or neither for plain HTTP"});
  if (!config.models.directories.empty() && config.cluster.port != 0)
    return tl::unexpected(std::string{
        "models.directories cannot be set together with cluster.port: the nodes of a cluster serve "
        "one model; to change it, start them again one by one"});
  return {};
}

std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + '"';
}

}  // namespace

environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>{value};
  };
}

tl::expected<command_line, std::string> load(std::span<const std::string> arguments, const environment& env) {
  command_line result;
  std::vector<flag> flags;
  std::string file = env("BITNET_CONFIG_FILE").value_or("");
  for (const auto& argument : arguments) {
    if (argument == "--help" || argument == "-h") {
      result.what = action::show_help;
    } else if (argument == "--version") {
      result.what = action::show_version;
    } else if (argument == "--dump-config") {
      result.what = action::dump_config;
    } else {
      auto f = split_flag(argument);
      if (!f) return tl::unexpected(std::move(f).error());
      if (f->key == "config-file")
        file = f->value.value_or("");
      else
        flags.push_back(std::move(*f));
    }
  }
  if (result.what == action::show_help || result.what == action::show_version) return result;

  if (!file.empty())
    if (auto ok = apply_file(result.config, file); !ok) return tl::unexpected(std::move(ok).error());
  if (auto ok = apply_environment(result.config, env); !ok) return tl::unexpected(std::move(ok).error());
  for (const auto& f : flags)
    if (auto ok = apply_flag(result.config, f); !ok) return tl::unexpected(std::move(ok).error());
  if (auto ok = check_consistency(result.config); !ok) return tl::unexpected(std::move(ok).error());
  if (result.what == action::serve && result.config.model.empty())
    return tl::unexpected(
        std::string{"model is not set: name a GGUF file with --model=FILE or BITNET_MODEL"});
  return result;
}

std::string dump(const server_config& config) {
  std::string text;
  std::string_view section;
  for (const auto& option : options()) {
    if (option.section() != section) {
      section = option.section();
      text += fmt::format("\n[{}]\n", section);
    }
    const auto value = option.get(config);
    const bool unset = option.kind == value_kind::text && value.empty();
    text += fmt::format("; {}\n{}{} = {}\n", option.help, unset ? "; " : "", option.name(),
                        option.kind == value_kind::text ? quoted(value) : value);
  }
  return text;
}

std::string help_text(std::string_view program) {
  const server_config defaults;
  std::string text = fmt::format(
      "Usage: {} --model=FILE [--key=value ...]\n\n"
      "Serves a ternary (BitNet) model over HTTP. A flag wins over the environment (BITNET_HTTP_PORT for\n"
      "http.port), which wins over the file, which wins over the default.\n\n"
      "  --help                              this text\n"
      "  --version                           version and build\n"
      "  --dump-config                       the effective configuration as a file, and exit\n"
      "  --config-file=FILE                  settings in CAF's INI syntax\n",
      program);
  std::string_view section;
  for (const auto& option : options()) {
    if (option.section() != section) text += '\n';
    section = option.section();
    const auto value = option.get(defaults);
    text += fmt::format("  {:<35} {}{}\n", fmt::format("--{}={}", option.key, option.hint), option.help,
                        value.empty() ? "" : fmt::format(" [{}]", value));
  }
  return text;
}

}  // namespace bitnet::config
