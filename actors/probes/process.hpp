#pragma once

#include "actors/introspection/stuck_actor.hpp"
#include "actors/probes/memory.hpp"

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace bitnet::actors {

/// CPU time that all threads of this process have used, user and system. Never blocks.
std::chrono::nanoseconds process_cpu_time() noexcept;

/// CPU time of this process and of others that come and go, as one figure that only grows. One thread.
class cpu_time_sum {
 public:
  /// `others`: the processes to count now; what one used that is gone stays counted.
  std::chrono::nanoseconds measure(const std::vector<pid_t>& others);

 private:
  std::map<pid_t, std::chrono::nanoseconds> last_;
  std::chrono::nanoseconds others_{0};
};

/// CPUs in this process's affinity mask, at least 1.
std::size_t affinity_cpu_count() noexcept;

/// What a log has lost. Counters since the start.
struct log_reading {
  std::uint64_t lines_dropped = 0;         ///< the writer was too slow for them
  std::uint64_t write_errors = 0;          ///< lines that could not be written: disk full, reader gone
  std::chrono::nanoseconds blocked_for{};  ///< the writer waits so long already for one line to be taken
};

/// What this process uses of what its machine gives it, at one moment.
struct process_reading {
  std::chrono::nanoseconds steady{};       ///< since an arbitrary start
  std::chrono::nanoseconds wall{};         ///< since the epoch
  std::optional<std::uint64_t> files;      ///< open descriptors
  std::uint64_t file_limit = 0;            ///< RLIMIT_NOFILE; 0: unknown
  bool thread_starts = true;               ///< a thread could be started just now
  std::optional<std::uint64_t> pids;       ///< threads in the cgroup
  std::optional<std::uint64_t> pid_limit;  ///< of the cgroup
  log_reading log;
  std::optional<stuck_actor> stuck;  ///< see process_watch_options::stuck
};

/// Measures; needs no free descriptor after the first call. One thread a value. Costs about 100 us: it starts
/// a thread.
class process_meter {
 public:
  explicit process_meter(std::function<log_reading()> log = {});
  process_reading operator()();

 private:
  std::function<log_reading()> log_;
  file_reader read_;
  std::shared_ptr<void> descriptors_;  ///< DIR* of /proc/self/fd
};

/// A line of a file of pressure stall information: the share of the last ten seconds in percent. `line` is
/// "some" or "full". Documentation/accounting/psi.rst of the kernel.
std::optional<double> parse_pressure_avg10(std::string_view text, std::string_view line);

}  // namespace bitnet::actors
