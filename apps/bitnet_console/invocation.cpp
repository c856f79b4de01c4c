#include "apps/bitnet_console/invocation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

namespace bitnet::console {

namespace {

/// Options of commands that have a value, so that it may also stand behind a blank.
constexpr std::array<std::string_view, 5> with_value{"by", "limit", "over", "after", "connect"};

constexpr double default_watch = 2;

tl::expected<double, std::string> parse_seconds(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !(value >= 0.1) || value > 3600)
    return tl::unexpected(fmt::format("--watch takes seconds from 0.1 to 3600, not '{}'", text));
  return value;
}

struct named {
  std::string name;
  std::optional<std::string> value;
};

tl::expected<void, std::string> apply(invocation& to, const named& option) {
  const auto flag = [&](bool& target) -> tl::expected<void, std::string> {
    if (option.value) return tl::unexpected(fmt::format("--{} takes no value", option.name));
    target = true;
    return {};
  };
  if (option.name == "json") return flag(to.json);
  if (option.name == "write") return flag(to.write);
  if (option.name == "yes") return flag(to.yes);
  if (option.name == "help") return flag(to.help);
  if (option.name == "version") return flag(to.version);
  if (option.name == "watch") {
    if (!option.value) {
      to.watch = default_watch;
      return {};
    }
    return parse_seconds(*option.value).map([&](double seconds) { to.watch = seconds; });
  }
  if (option.name == "connect") {
    to.connect = option.value;
    return {};
  }
  to.options.emplace_back(option.name, option.value.value_or("true"));
  return {};
}

}  // namespace

std::optional<std::string> invocation::option(const std::string& name) const {
  for (const auto& [key, value] : options)
    if (key == name) return value;
  return std::nullopt;
}

tl::expected<invocation, std::string> parse_words(std::span<const std::string> words) {
  invocation result;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const auto& word = words[i];
    if (word == "-f") {
      result.options.emplace_back("follow", "true");
      continue;
    }
    if (word == "-h") {
      result.help = true;
      continue;
    }
    if (!word.starts_with("--")) {
      if (word.size() > 1 && word.starts_with('-'))
        return tl::unexpected(fmt::format("unknown option {}; see help", word));
      if (result.command.empty())
        result.command = word;
      else
        result.words.push_back(word);
      continue;
    }
    const auto equals = word.find('=');
    named option{word.substr(2, equals == std::string::npos ? equals : equals - 2), std::nullopt};
    if (equals != std::string::npos) {
      option.value = word.substr(equals + 1);
    } else if (std::find(with_value.begin(), with_value.end(), option.name) != with_value.end()) {
      if (++i == words.size()) return tl::unexpected(fmt::format("--{} needs a value", option.name));
      option.value = words[i];
    }
    if (auto done = apply(result, option); !done) return tl::unexpected(done.error());
  }
  return result;
}

tl::expected<std::vector<std::string>, std::string> split_line(const std::string& line) {
  std::vector<std::string> words;
  std::string word;
  bool inside = false;
  char quote = 0;
  for (const char c : line) {
    if (quote != 0) {
      if (c == quote)
        quote = 0;
      else
        word += c;
    } else if (c == '"' || c == '\'') {
      quote = c;
      inside = true;
    } else if (c == ' ' || c == '\t') {
      if (inside) words.push_back(std::exchange(word, {}));
      inside = false;
    } else {
      word += c;
      inside = true;
    }
  }
  if (quote != 0) return tl::unexpected(fmt::format("a quote ({}) is not closed", quote));
  if (inside) words.push_back(std::move(word));
  return words;
}

}  // namespace bitnet::console
