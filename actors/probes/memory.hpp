#pragma once

#include "actors/health.hpp"

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::actors {

/// Content of a small file (procfs, sysfs), nothing where it cannot be read. Injected in tests.
using file_reader = std::function<std::optional<std::string>(const std::string& path)>;
std::optional<std::string> read_small_file(const std::string& path);

struct host_memory {
  std::uint64_t total_bytes = 0;
  std::uint64_t available_bytes = 0;  ///< MemAvailable: free, or reclaimable without swapping
};

/// Parses /proc/meminfo. Nothing where MemTotal or MemAvailable is missing.
std::optional<host_memory> parse_meminfo(std::string_view text);

/// The value of `key` in a "key value" list such as memory.stat.
std::optional<std::uint64_t> parse_stat_value(std::string_view text, std::string_view key);

/// A limit file: a number of bytes; nothing for "max" and for cgroup v1's "no limit" numbers (2^60 and more).
std::optional<std::uint64_t> parse_memory_limit(std::string_view text);

/// This process's cgroup in the hierarchy of `controller` ("" for version 2) from /proc/self/cgroup.
std::optional<std::string> parse_cgroup_path(std::string_view text, std::string_view controller);

/// Resident bytes from /proc/self/statm.
std::optional<std::uint64_t> parse_statm_resident(std::string_view text, std::uint64_t page_bytes);

/// Measures: the resident set of this process, and use against the tightest memory limit (memory.max, or
/// memory.high where that is lower), which is that of the cgroup (version 2, then 1) or one of its ancestors,
/// otherwise the host's memory. Page cache that the kernel can take back (files that nobody maps,
/// slab_reclaimable) counts as free. Nothing where /proc cannot be read.
std::optional<memory_sample> measure_memory(const file_reader& read = read_small_file);

/// The largest resident set of these processes, each a fork of the one before: what a fork shares with its
/// origin counts once, without asking the kernel what is shared, which would mean to walk gigabytes of page
/// tables. 0 where there is none.
std::uint64_t largest_resident_bytes(const std::vector<pid_t>& forks);

/// Share of the last ten seconds, in percent, in which every task of the machine or of this cgroup waited for
/// memory (pressure stall information, "full"); the worse of the two, 0 where the kernel does not tell.
double measure_memory_pressure(const file_reader& read = read_small_file);

}  // namespace bitnet::actors
