#pragma once

#include <optional>
#include <string>

namespace bitnet::kernels::cuda {

/// Small products on the device whose results are known, by dp4a and on tensor cores.
/// What went wrong, or nothing. May block for ever on a device that hangs. Any
/// thread.
std::optional<std::string> run_canary(int device);

}  // namespace bitnet::kernels::cuda
