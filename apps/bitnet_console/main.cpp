#include "apps/bitnet_console/client.hpp"
#include "apps/bitnet_console/invocation.hpp"
#include "apps/bitnet_console/repl.hpp"
#include "apps/bitnet_console/session.hpp"
#include "apps/build_info.hpp"

#include <fmt/format.h>

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

namespace {

using namespace bitnet;
using console::exit_code;

std::size_t terminal_width() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

console::terminal make_terminal(bool interactive) {
  console::terminal screen;
  screen.out = [](const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  screen.err = [](const std::string& text) { std::fwrite(text.data(), 1, text.size(), stderr); };
  screen.interactive = interactive;
  screen.width = isatty(STDOUT_FILENO) != 0 ? terminal_width() : 0;
  if (interactive)
    screen.confirm = [](const std::string& prompt) {
      fmt::print("{}", prompt);
      std::fflush(stdout);
      std::string line;
      std::getline(std::cin, line);
      return line;
    };
  return screen;
}

exit_code fail(const std::string& why, exit_code code) {
  fmt::print(stderr, "bitnet-console: {}\n", why);
  return code;
}

exit_code run(const std::vector<std::string>& arguments) {
  auto what = console::parse_words(arguments);
  if (!what) return fail(what.error() + "; see --help", exit_code::usage);
  if (what->help && what->command.empty()) {
    fmt::print("{}", console::usage_text());
    return exit_code::ok;
  }
  if (what->version) {
    fmt::print("bitnet-console {} ({})\n", apps::this_build().version, apps::this_build().git_sha);
    return exit_code::ok;
  }
  if (!what->options.empty() && what->command.empty())
    return fail(fmt::format("there is no option --{}; see --help", what->options.front().first),
                exit_code::usage);
  std::string target;
  if (what->connect) {
    target = *what->connect;
  } else {
    const auto found = console::find_target();
    if (!found)
      return fail(found.error().message, found.error().ambiguous ? exit_code::usage : exit_code::unreachable);
    target = *found;
  }
  auto server = console::client::connect(target);
  if (!server) return fail(server.error(), exit_code::unreachable);

  const bool typed = isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0;
  console::session session(*server, make_terminal(typed), what->write);
  if (!what->command.empty()) return session.run(*what);
  if (typed)
    fmt::print("Connected to {}, bitnet-server {}. help lists the commands, quit leaves.\n\n", server->node(),
               server->version());
  return console::run_repl(*server, session, typed);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return static_cast<int>(run({argv + 1, argv + argc}));
  } catch (const std::exception& problem) {
    fmt::print(stderr, "bitnet-console: {}\n", problem.what());
    return static_cast<int>(exit_code::unreachable);
  }
}
