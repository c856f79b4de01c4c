#include "apps/bitnet_server/application.hpp"
#include "apps/build_info.hpp"
#include "config/load.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

// As sysexits(3) does not say it: 2 is what shells and most tools use for "called wrongly".
constexpr int exit_bad_configuration = 2;

int run(const std::vector<std::string>& arguments) {
  using namespace bitnet;
  auto command = config::load(arguments, config::process_environment());
  if (!command) {
    fmt::print(stderr, "bitnet-server: {}\n", command.error());
    return exit_bad_configuration;
  }
  switch (command->what) {
    case config::action::show_help:
      fmt::print("{}", config::help_text("bitnet-server"));
      return 0;
    case config::action::show_version: {
      const auto& build = apps::this_build();
      fmt::print("bitnet-server {} ({}, {}, {} for {}, {})\n", build.version, build.git_sha, build.built_at,
                 build.compiler, build.target, build.profile);
      return 0;
    }
    case config::action::dump_config:
      fmt::print("{}", config::dump(command->config));
      return 0;
    case config::action::serve:
      return apps::serve(command->config);
  }
  return exit_bad_configuration;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const std::exception& problem) {
    // Only start-up can get here, for example out of memory: a running server handles errors where they
    // happen.
    fmt::print(stderr, "bitnet-server: cannot start: {}\n", problem.what());
    return 1;
  }
}
