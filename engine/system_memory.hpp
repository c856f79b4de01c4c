#pragma once

#include <cstdint>
#include <filesystem>

namespace bitnet::engine {

/// Bytes that this process can still take before the kernel must swap or kill: the machine's MemAvailable, or
/// what is left of the memory limit of its cgroup (v2) or one above it, if that is less. Page cache counts as
/// available. Reads a few small files under /proc and /sys. The largest number where nothing can be measured.
std::uint64_t available_memory_bytes();

/// The same with another root directory in front of /proc and /sys, for tests.
std::uint64_t available_memory_bytes(const std::filesystem::path& root);

}  // namespace bitnet::engine
