#include "actors/probes/process.hpp"

#include "actors/probes/kept_files.hpp"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <string>
#include <utility>

namespace bitnet::actors {

std::chrono::nanoseconds process_cpu_time() noexcept {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return std::chrono::nanoseconds(0);
  auto duration = [](const timeval& t) {
    return std::chrono::seconds(t.tv_sec) + std::chrono::microseconds(t.tv_usec);
  };
  return duration(usage.ru_utime) + duration(usage.ru_stime);
}

std::chrono::nanoseconds cpu_time_sum::measure(const std::vector<pid_t>& others) {
  std::map<pid_t, std::chrono::nanoseconds> now;
  for (const auto pid : others) {
    clockid_t clock{};
    timespec used{};
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0) continue;
    const auto time = std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
    const auto known = last_.find(pid);
    // Less than before: another process has the number now.
    others_ += known == last_.end() || time < known->second ? time : time - known->second;
    now[pid] = time;
  }
  last_ = std::move(now);
  return process_cpu_time() + others_;
}

std::size_t affinity_cpu_count() noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
}

namespace {

/// Starts a thread that does nothing. Every limit on threads shows here, whoever sets it.
bool can_start_thread() {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  pthread_attr_setstacksize(&attributes, std::size_t{256} << 10);
  pthread_t thread{};
  const bool started = pthread_create(
                           &thread, &attributes, [](void*) -> void* { return nullptr; }, nullptr) == 0;
  if (started) pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  return started;
}

std::optional<std::uint64_t> count_entries(DIR* directory) {
  if (directory == nullptr) return std::nullopt;
  ::rewinddir(directory);
  std::uint64_t count = 0;
  while (const auto* entry = ::readdir(directory)) count += entry->d_name[0] == '.' ? 0 : 1;
  return count;
}

}  // namespace

process_meter::process_meter(std::function<log_reading()> log)
    : log_(std::move(log)), read_(keep_files_open()), descriptors_(::opendir("/proc/self/fd"), [](void* d) {
        if (d != nullptr) ::closedir(static_cast<DIR*>(d));
      }) {}

process_reading process_meter::operator()() {
  process_reading r;
  r.steady = std::chrono::steady_clock::now().time_since_epoch();
  r.wall = std::chrono::system_clock::now().time_since_epoch();
  r.files = count_entries(static_cast<DIR*>(descriptors_.get()));
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) r.file_limit = limit.rlim_cur;
  r.thread_starts = can_start_thread();
  const auto cgroups = read_("/proc/self/cgroup").value_or("");
  struct hierarchy {
    const char* controller;
    const char* mount;
  };
  for (const auto& [controller, mount] :
       {hierarchy{"", "/sys/fs/cgroup"}, hierarchy{"pids", "/sys/fs/cgroup/pids"}}) {
    const auto path = parse_cgroup_path(cgroups, controller);
    if (!path) continue;
    const auto directory = mount + (*path == "/" ? std::string() : *path);
    r.pid_limit = parse_memory_limit(read_(directory + "/pids.max").value_or(""));
    if (const auto pids = read_(directory + "/pids.current"); pids && r.pid_limit) {
      r.pids = std::strtoull(pids->c_str(), nullptr, 10);
      break;
    }
  }
  if (log_) r.log = log_();
  return r;
}

std::optional<double> parse_pressure_avg10(std::string_view text, std::string_view line) {
  while (!text.empty()) {
    const auto end = text.find('\n');
    const auto current = text.substr(0, end);
    constexpr std::string_view key = " avg10=";
    if (current.starts_with(line) && current.substr(line.size()).starts_with(key)) {
      const std::string number(current.substr(line.size() + key.size(), 16));
      char* rest = nullptr;
      const auto value = std::strtod(number.c_str(), &rest);
      if (rest == number.c_str()) return std::nullopt;
      return value;
    }
    if (end == std::string_view::npos) return std::nullopt;
    text.remove_prefix(end + 1);
  }
  return std::nullopt;
}

}  // namespace bitnet::actors
