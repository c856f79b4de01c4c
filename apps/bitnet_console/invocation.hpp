#pragma once

#include <tl/expected.hpp>

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace bitnet::console {

/// One command with its options, from the command line or from a line of the console. The same words mean the
/// same in both.
struct invocation {
  std::string command;  ///< empty: none, so the interactive console
  std::vector<std::string> words;
  std::vector<std::pair<std::string, std::string>> options;  ///< for the command itself

  std::optional<std::string> connect;  ///< socket path or HOST:PORT
  bool json = false;
  bool write = false;
  bool yes = false;
  bool help = false;
  bool version = false;
  std::optional<double> watch;  ///< seconds between repetitions

  std::optional<std::string> option(const std::string& name) const;
};

/// The error says what to write instead.
tl::expected<invocation, std::string> parse_words(std::span<const std::string> words);

/// Splits a line at blanks; quotes keep blanks. The error: a quote that is not closed.
tl::expected<std::vector<std::string>, std::string> split_line(const std::string& line);

}  // namespace bitnet::console
