#include "actors/probes/memory.hpp"

#include "actors/probes/process.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <vector>

namespace bitnet::actors {

namespace {

std::optional<std::uint64_t> parse_unsigned(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  return value;
}

/// Calls f(line) for each line until it returns true.
template <class F>
void for_each_line(std::string_view text, F f) {
  while (!text.empty()) {
    const auto end = text.find('\n');
    if (f(text.substr(0, end)) || end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

/// The names that the two versions of cgroups give to the same things.
struct cgroup_files {
  std::string_view controller;
  std::string_view mount;
  std::string_view limit;
  std::string_view usage;
  std::string_view high;  ///< from here on the kernel throttles; "" where there is no such thing
  std::string_view inactive_file;
  std::string_view active_file;
  std::string_view mapped_file;
};
constexpr cgroup_files version2{"",
                                "/sys/fs/cgroup",
                                "memory.max",
                                "memory.current",
                                "memory.high",
                                "inactive_file",
                                "active_file",
                                "file_mapped"};
constexpr cgroup_files version1{
    "memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
    "",       "total_inactive_file",   "total_active_file",     "total_mapped_file"};

std::optional<memory_sample> measure_one_cgroup(const file_reader& read, const cgroup_files& files,
                                                const std::string& directory) {
  auto value = [&](std::string_view name) { return read(directory + "/" + std::string(name)); };
  auto limit = parse_memory_limit(value(files.limit).value_or("")).value_or(0);
  if (!files.high.empty())
    if (const auto high = parse_memory_limit(value(files.high).value_or("")))
      limit = limit == 0 ? *high : std::min(limit, *high);
  const auto usage = parse_unsigned(value(files.usage).value_or(""));
  if (limit == 0 || !usage) return std::nullopt;
  const auto stat = value("memory.stat").value_or("");
  const auto counted = [&](std::string_view key) { return parse_stat_value(stat, key).value_or(0); };
  // Mapped files are in use, a model's weights for example: taking them back costs reading them again.
  const auto cache = counted(files.inactive_file) + counted(files.active_file);
  const auto reclaimable = cache - std::min(cache, counted(files.mapped_file)) + counted("slab_reclaimable");
  memory_sample sample;
  sample.limit_bytes = limit;
  sample.used_bytes = *usage - std::min(*usage, reclaimable);
  sample.limited_by_cgroup = true;
  return sample;
}

double used_ratio(const memory_sample& sample) {
  return static_cast<double>(sample.used_bytes) / static_cast<double>(sample.limit_bytes);
}

/// The fullest of the cgroup and its ancestors that have a limit.
std::optional<memory_sample> measure_cgroup(const file_reader& read, const cgroup_files& files,
                                            std::string path) {
  std::optional<memory_sample> fullest;
  while (true) {
    if (path == "/") path.clear();
    const auto sample = measure_one_cgroup(read, files, std::string(files.mount) + path);
    if (sample && (!fullest || used_ratio(*sample) > used_ratio(*fullest))) fullest = sample;
    if (path.empty()) return fullest;
    path.resize(path.find_last_of('/') == std::string::npos ? 0 : path.find_last_of('/'));
  }
}

}  // namespace

std::optional<std::string> read_small_file(const std::string& path) {
  std::ifstream in(path);
  if (!in) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

std::optional<host_memory> parse_meminfo(std::string_view text) {
  std::optional<std::uint64_t> total;
  std::optional<std::uint64_t> available;
  for_each_line(text, [&](std::string_view line) {
    constexpr std::string_view total_key = "MemTotal:";
    constexpr std::string_view available_key = "MemAvailable:";
    if (line.starts_with(total_key)) total = parse_unsigned(line.substr(total_key.size()));
    if (line.starts_with(available_key)) available = parse_unsigned(line.substr(available_key.size()));
    return total && available;
  });
  if (!total || !available) return std::nullopt;
  return host_memory{*total * 1024, *available * 1024};  // the file is in KiB
}

std::optional<std::uint64_t> parse_stat_value(std::string_view text, std::string_view key) {
  std::optional<std::uint64_t> value;
  for_each_line(text, [&](std::string_view line) {
    if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != ' ') return false;
    value = parse_unsigned(line.substr(key.size()));
    return true;
  });
  return value;
}

std::optional<std::uint64_t> parse_memory_limit(std::string_view text) {
  constexpr std::uint64_t no_limit = std::uint64_t{1} << 60;
  const auto value = parse_unsigned(text);
  if (!value || *value >= no_limit) return std::nullopt;
  return value;
}

std::optional<std::string> parse_cgroup_path(std::string_view text, std::string_view controller) {
  std::optional<std::string> path;
  for_each_line(text, [&](std::string_view line) {
    // "hierarchy:controller,controller:/path"
    const auto first = line.find(':');
    const auto second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) return false;
    auto controllers = line.substr(first + 1, second - first - 1);
    bool found = controllers == controller;
    while (!found && !controllers.empty()) {
      const auto comma = controllers.find(',');
      found = controllers.substr(0, comma) == controller;
      controllers.remove_prefix(comma == std::string_view::npos ? controllers.size() : comma + 1);
    }
    if (found) path = std::string(line.substr(second + 1));
    return found;
  });
  return path;
}

std::optional<std::uint64_t> parse_statm_resident(std::string_view text, std::uint64_t page_bytes) {
  const auto space = text.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  const auto pages = parse_unsigned(text.substr(space + 1));
  if (!pages) return std::nullopt;
  return *pages * page_bytes;
}

double measure_memory_pressure(const file_reader& read) {
  std::vector<std::string> files{"/proc/pressure/memory"};
  if (const auto path = parse_cgroup_path(read("/proc/self/cgroup").value_or(""), ""))
    files.push_back(std::string(version2.mount) + (*path == "/" ? "" : *path) + "/memory.pressure");
  double worst = 0;
  for (const auto& file : files)
    if (const auto text = read(file))
      worst = std::max(worst, parse_pressure_avg10(*text, "full").value_or(0));
  return worst;
}

std::uint64_t largest_resident_bytes(const std::vector<pid_t>& forks) {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  std::uint64_t largest = 0;
  for (const auto pid : forks)
    if (const auto statm = read_small_file("/proc/" + std::to_string(pid) + "/statm"))
      largest = std::max(largest, parse_statm_resident(*statm, page).value_or(0));
  return largest;
}

std::optional<memory_sample> measure_memory(const file_reader& read) {
  const auto statm = read("/proc/self/statm");
  const auto resident =
      statm ? parse_statm_resident(*statm, static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE))) : std::nullopt;
  if (!resident) return std::nullopt;

  std::optional<memory_sample> sample;
  const auto cgroups = read("/proc/self/cgroup").value_or("");
  for (const auto* files : {&version2, &version1}) {
    const auto path = parse_cgroup_path(cgroups, files->controller);
    if (path) sample = measure_cgroup(read, *files, *path);
    if (sample) break;
  }
  if (!sample) {
    const auto meminfo = read("/proc/meminfo");
    const auto host = meminfo ? parse_meminfo(*meminfo) : std::nullopt;
    if (!host || host->total_bytes == 0) return std::nullopt;
    sample.emplace();
    sample->limit_bytes = host->total_bytes;
    sample->used_bytes = host->total_bytes - std::min(host->total_bytes, host->available_bytes);
  }
  sample->resident_bytes = *resident;
  return sample;
}

}  // namespace bitnet::actors
