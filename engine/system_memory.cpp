#include "engine/system_memory.hpp"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

namespace bitnet::engine {

namespace {

constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

/// The number after `name` in a file of "name number" lines.
std::optional<std::uint64_t> field(const std::filesystem::path& path, const std::string& name) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    if (line.rfind(name + ' ', 0) != 0 && line.rfind(name + ':', 0) != 0) continue;
    try {
      return std::stoull(line.substr(name.size() + 1));
    } catch (const std::exception&) {
      return std::nullopt;
    }
  }
  return std::nullopt;
}

/// A file with one number; nothing for "max" or an absent file.
std::optional<std::uint64_t> number(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::uint64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;
}

/// What is left of one cgroup's limit. File pages that nobody uses now are given back under pressure.
std::uint64_t left_in_cgroup(const std::filesystem::path& group) {
  const auto limit = number(group / "memory.max");
  const auto used = number(group / "memory.current");
  if (!limit || !used) return unlimited;
  const std::uint64_t reclaimable = field(group / "memory.stat", "inactive_file").value_or(0) +
                                    field(group / "memory.stat", "active_file").value_or(0);
  const std::uint64_t needed = *used - std::min(*used, reclaimable);
  return *limit - std::min(*limit, needed);
}

/// The process's cgroup in the unified hierarchy, relative to its mount; inside a container often "/".
std::filesystem::path own_cgroup(const std::filesystem::path& root) {
  std::ifstream in(root / "proc/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {
    if (line.rfind("0::/", 0) == 0) return line.substr(4);
  }
  return {};
}

}  // namespace

std::uint64_t available_memory_bytes(const std::filesystem::path& root) {
  std::uint64_t least = unlimited;
  if (const auto kib = field(root / "proc/meminfo", "MemAvailable")) least = *kib * 1024;
  const std::filesystem::path mount = root / "sys/fs/cgroup";
  std::filesystem::path group = own_cgroup(root);
  // A limit on any group above holds too.
  while (true) {
    least = std::min(least, left_in_cgroup(group.empty() ? mount : mount / group));
    if (group.empty()) break;
    group = group.parent_path();
  }
  return least;
}

std::uint64_t available_memory_bytes() {
  return available_memory_bytes("/");
}

}  // namespace bitnet::engine
