#pragma once

#include "engine/compute_device.hpp"
#include "engine/error.hpp"

#include <functional>
#include <memory>
#include <string>

namespace bitnet::actors {

/// Opens the device that the server named ("cuda:0"), or says why it cannot be had.
using device_opener =
    std::function<engine::result<std::shared_ptr<engine::compute_device>>(const std::string& name)>;

/// The main function of bitnet-worker, over the socket `control_fd` to the server.
///
/// Loads and packs the weights once, makes them read-only, and forks an engine process whenever it is told
/// to: a fork takes milliseconds, and the weights are shared, in anonymous memory with huge pages. One engine
/// runs at a time on each device. When it forks, the process has one thread, and that thread never entered a
/// parallel region of OpenMP: what others did while loading ended with them. Ends, its engines with it, when
/// the server closes its end. Returns the process's exit code.
///
/// Devices are opened by engines, after the fork, and never by the loader: a context does not survive a fork,
/// and one that an error has spoilt for good ends with the engine's process. The engine copies the weights to
/// its device, so there a respawn takes as long as that.
int run_loader(int control_fd, device_opener open_device);

/// Where bitnet-worker expects the socket; nothing else but the standard streams is open.
inline constexpr int loader_control_fd = 3;
/// And the memory of loader_signs.
inline constexpr int loader_signs_fd = 4;

}  // namespace bitnet::actors
