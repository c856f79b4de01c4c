#include "kernels/cpu_quota.hpp"

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

namespace bitnet::kernels {

namespace {

namespace fs = std::filesystem;

/// "max 100000" or "150000 100000": quota and period in microseconds.
std::optional<double> read_v2(const fs::path& group) {
  std::ifstream in(group / "cpu.max");
  double quota = 0;
  double period = 0;
  if (in >> quota >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;
}

/// The quota is -1 where there is none.
std::optional<double> read_v1(const fs::path& group) {
  std::ifstream quota_in(group / "cpu.cfs_quota_us");
  std::ifstream period_in(group / "cpu.cfs_period_us");
  double quota = 0;
  double period = 0;
  if (quota_in >> quota && period_in >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;
}

using reader = std::optional<double> (*)(const fs::path&);

/// The least quota of `mount`/`group` and its parents up to the mount.
std::optional<double> tightest(const fs::path& mount, fs::path group, reader read) {
  std::optional<double> least;
  const auto consider = [&](const fs::path& directory) {
    if (const auto quota = read(directory)) least = least ? std::min(*least, *quota) : *quota;
  };
  group = group.relative_path().lexically_normal();
  for (; !group.empty() && group != "."; group = group.parent_path()) consider(mount / group);
  consider(mount);
  return least;
}

bool contains_cpu(std::string_view controllers) {
  for (std::size_t at = 0; at <= controllers.size();) {
    const std::size_t comma = std::min(controllers.find(',', at), controllers.size());
    if (controllers.substr(at, comma - at) == "cpu") return true;
    at = comma + 1;
  }
  return false;
}

}  // namespace

std::optional<double> cgroup_cpu_quota(const fs::path& proc_self, const fs::path& cgroup_mount) {
  std::optional<double> least;
  std::ifstream in(proc_self / "cgroup");
  // Lines are "hierarchy:controllers:path"; version 2 is "0::path" (cgroups(7)).
  for (std::string line; std::getline(in, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const fs::path group = line.substr(second + 1);
    std::optional<double> quota;
    if (controllers.empty()) {
      // Hybrid systems mount version 2 beside version 1.
      std::error_code ignored;
      const fs::path unified = cgroup_mount / "unified";
      quota = tightest(fs::exists(unified, ignored) ? unified : cgroup_mount, group, read_v2);
    } else if (contains_cpu(controllers)) {
      std::error_code ignored;
      const fs::path joined = cgroup_mount / controllers;
      quota = tightest(fs::exists(joined, ignored) ? joined : cgroup_mount / "cpu", group, read_v1);
    }
    if (quota) least = least ? std::min(*least, *quota) : *quota;
  }
  return least;
}

}  // namespace bitnet::kernels
