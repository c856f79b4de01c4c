#pragma once

#include <filesystem>
#include <optional>

namespace bitnet::kernels {

/// CPUs' worth of time that control groups allow this process, for example 1.5: the tightest limit on the way
/// from its group to the root, of version 2 (cpu.max) or version 1 (cpu.cfs_quota_us). Empty where there is
/// no limit or none can be read. `proc_self` is /proc/self and `cgroup_mount` /sys/fs/cgroup except in tests.
/// In a container whose own group is mounted as the root, the path in /proc/self/cgroup does not exist below
/// the mount; what is mounted is what limits.
std::optional<double> cgroup_cpu_quota(const std::filesystem::path& proc_self,
                                       const std::filesystem::path& cgroup_mount);

}  // namespace bitnet::kernels
