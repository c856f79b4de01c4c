#include "engine/kv_cache.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

namespace bitnet::engine {

namespace {

namespace fs = std::filesystem;

/// A file that holds one number; nothing where it says "max" or is not there.
std::optional<std::size_t> read_number(const fs::path& path) {
  std::ifstream file(path);
  std::size_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

/// The number behind `key` in lines of "key value".
std::optional<std::size_t> read_field(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  std::string name;
  std::size_t value = 0;
  while (file >> name >> value) {
    if (name == key) return value;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return std::nullopt;
}

/// Room under the limit of one cgroup (version 2). Pages of files that can be dropped are not in the way.
std::optional<std::size_t> cgroup_room(const fs::path& group) {
  const auto limit = read_number(group / "memory.max");
  const auto current = read_number(group / "memory.current");
  if (!limit || !current) return std::nullopt;
  const auto reclaimable = read_field(group / "memory.stat", "inactive_file").value_or(0);
  const auto used = *current - std::min(*current, reclaimable);
  return *limit - std::min(*limit, used);
}

/// This process's cgroup below /sys/fs/cgroup, version 2 ("0::/path").
fs::path own_cgroup() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("0::/", 0) == 0) return fs::path("/sys/fs/cgroup") / line.substr(4);
  }
  return "/sys/fs/cgroup";
}

}  // namespace

std::size_t available_memory_bytes() {
  auto room = read_field("/proc/meminfo", "MemAvailable:").value_or(0) * 1024;
  const fs::path root = "/sys/fs/cgroup";
  for (auto group = own_cgroup();; group = group.parent_path()) {
    if (const auto left = cgroup_room(group)) room = std::min(room, *left);
    if (group == root || !group.has_relative_path()) break;
  }
  return room;
}

}  // namespace bitnet::engine
