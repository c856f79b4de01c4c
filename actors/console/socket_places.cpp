#include "actors/console/socket_places.hpp"

#include <fmt/format.h>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace bitnet::console {

namespace fs = std::filesystem;

namespace {

/// A user's own runtime directory; empty where there is none.
std::string user_directory() {
  if (const auto* given = std::getenv("XDG_RUNTIME_DIR"); given != nullptr && *given != '\0') return given;
  auto usual = fmt::format("/run/user/{}", getuid());
  std::error_code error;
  return fs::is_directory(usual, error) ? usual : std::string();
}

std::string temporary_directory() {
  return fmt::format("/tmp/bitnet-server-{}", getuid());
}

/// Anybody can make a directory in /tmp before we do.
bool trusted(const std::string& place) {
  struct stat status {};
  return lstat(place.c_str(), &status) == 0 &&
         (place != temporary_directory() || (S_ISDIR(status.st_mode) && status.st_uid == getuid()));
}

}  // namespace

std::string default_socket(std::uint16_t http_port) {
  const auto name = fmt::format("console-{}.sock", http_port);
  if (const auto* given = std::getenv("RUNTIME_DIRECTORY"); given != nullptr && *given != '\0') {
    const std::string all = given;  // a list, separated by colons
    return all.substr(0, all.find(':')) + "/" + name;
  }
  const auto user = user_directory();
  return (user.empty() ? temporary_directory() : user + "/bitnet-server") + "/" + name;
}

std::vector<std::string> find_sockets() {
  std::vector<std::string> found;
  std::vector<std::string> places{"/run/bitnet-server", temporary_directory()};
  if (const auto user = user_directory(); !user.empty()) places.push_back(user + "/bitnet-server");
  for (const auto& place : places) {
    if (!trusted(place)) continue;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(place, error)) {
      const auto name = entry.path().filename().string();
      if (name.starts_with("console-") && name.ends_with(".sock")) found.push_back(entry.path().string());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace bitnet::console
