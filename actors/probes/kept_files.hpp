#pragma once

#include "actors/probes/memory.hpp"

#include <cstddef>

namespace bitnet::actors {

/// Of these, the least recently used are closed.
inline constexpr std::size_t max_kept_files = 64;

/// Like read_small_file, but keeps the files of procfs and sysfs open that it has read once: they can still
/// be read when the process has no descriptor left. Copies share the descriptors; one thread.
file_reader keep_files_open();

}  // namespace bitnet::actors
