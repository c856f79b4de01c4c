#include "apps/bitnet_console/repl.hpp"

#include "apps/bitnet_console/completion.hpp"

#include <fmt/format.h>

#include <editline/readline.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <system_error>

namespace bitnet::console {

namespace {

constexpr int kept_lines = 1000;

// The library's completion hook has no argument of ours.
client* completing = nullptr;
std::vector<std::string> candidates;

char* next_candidate(const char* prefix, int state) {
  static std::size_t at = 0;
  if (state == 0) at = 0;
  while (at < candidates.size()) {
    const auto& candidate = candidates[at++];
    if (candidate.starts_with(prefix)) return strdup(candidate.c_str());
  }
  return nullptr;
}

char** complete(const char* prefix, int start, int) {
  rl_attempted_completion_over = 1;  // never file names
  candidates = completions(*completing, std::string(rl_line_buffer, static_cast<std::size_t>(start)));
  return rl_completion_matches(prefix, next_candidate);
}

/// Empty where there is no place for it.
std::string history_file() {
  namespace fs = std::filesystem;
  std::error_code error;
  if (const auto* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state != '\0') {
    fs::create_directories(fs::path(state) / "bitnet-console", error);
    return error ? std::string() : (fs::path(state) / "bitnet-console/history").string();
  }
  const auto* home = std::getenv("HOME");
  return home == nullptr || *home == '\0' ? std::string() : std::string(home) + "/.bitnet_console_history";
}

/// Lines with editing; the history is on disk as long as lines are read.
class line_editor {
 public:
  explicit line_editor(client& server) : file_(history_file()) {
    completing = &server;
    rl_readline_name = const_cast<char*>("bitnet-console");
    rl_attempted_completion_function = complete;
    rl_initialize();
    using_history();
    stifle_history(kept_lines);
    if (!file_.empty()) read_history(file_.c_str());
  }

  std::optional<std::string> read(const std::string& prompt) {
    const std::unique_ptr<char, decltype(&std::free)> line(readline(prompt.c_str()), std::free);
    if (!line) return std::nullopt;
    if (*line != '\0') remember(line.get());
    return std::string(line.get());
  }

 private:
  void remember(const char* line) {
    add_history(line);
    if (file_.empty()) return;
    // Lines name actors and requests: nobody else's business.
    const auto mask = umask(0077);
    write_history(file_.c_str());
    umask(mask);
  }

  std::string file_;
};

std::optional<std::string> read_plain() {
  std::string line;
  if (!std::getline(std::cin, line)) return std::nullopt;
  return line;
}

}  // namespace

exit_code run_repl(client& server, session& commands, bool editing) {
  std::optional<line_editor> editor;
  if (editing) editor.emplace(server);
  auto last = exit_code::ok;
  for (;;) {
    const auto line = editor ? editor->read(commands.prompt()) : read_plain();
    if (!line) break;
    const auto words = split_line(*line);
    if (!words) {
      fmt::print(stderr, "bitnet-console: {}\n", words.error());
      last = exit_code::usage;
      continue;
    }
    if (words->empty() || words->front().starts_with('#')) continue;
    if (words->front() == "quit" || words->front() == "exit") return last;
    const auto what = parse_words(*words);
    if (!what) {
      fmt::print(stderr, "bitnet-console: {}\n", what.error());
      last = exit_code::usage;
      continue;
    }
    last = commands.run(*what);
  }
  if (editing) fmt::print("\n");
  return last;
}

}  // namespace bitnet::console
