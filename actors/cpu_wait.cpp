#include "actors/cpu_wait.hpp"

#include "actors/descriptor.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

namespace bitnet::actors {

namespace {

/// The second number of "running waiting slices", nanoseconds (Documentation/scheduler/sched-stats.rst).
std::int64_t parse_wait(std::string_view text) noexcept {
  const auto space = text.find(' ');
  if (space == std::string_view::npos) return 0;
  std::int64_t value = 0;
  std::from_chars(text.data() + space + 1, text.data() + text.size(), value);
  return value;
}

}  // namespace

std::chrono::nanoseconds threads_cpu_wait() noexcept {
  const std::unique_ptr<DIR, int (*)(DIR*)> tasks(::opendir("/proc/self/task"), ::closedir);
  if (!tasks) return {};
  std::int64_t sum = 0;
  while (const auto* entry = ::readdir(tasks.get())) {
    if (entry->d_name[0] == '.') continue;
    std::array<char, 64> path{};
    if (std::strlen(entry->d_name) > 20) continue;
    std::strcpy(path.data(), entry->d_name);
    std::strcat(path.data(), "/schedstat");
    const descriptor file(::openat(::dirfd(tasks.get()), path.data(), O_RDONLY | O_CLOEXEC));
    std::array<char, 128> text{};
    const auto got = ::read(file.get(), text.data(), text.size());
    if (got > 0) sum += parse_wait({text.data(), static_cast<std::size_t>(got)});
  }
  return std::chrono::nanoseconds(sum);
}

}  // namespace bitnet::actors
