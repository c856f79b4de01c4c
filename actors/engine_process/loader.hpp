#pragma once

namespace bitnet::actors {

/// The main function of bitnet-worker, over the socket `control_fd` to the server.
///
/// Loads and packs the weights once, makes them read-only, and forks an engine process whenever it is told
/// to: a fork takes milliseconds, and the weights are shared, in anonymous memory with huge pages. One engine
/// runs at a time. When it forks, the process has one thread, and that thread never entered a parallel region
/// of OpenMP: what others did while loading ended with them. Ends, its engine with it, when the server closes
/// its end. Returns the process's exit code.
int run_loader(int control_fd);

/// Where bitnet-worker expects the socket; nothing else but the standard streams is open.
inline constexpr int loader_control_fd = 3;
/// And the memory of loader_signs.
inline constexpr int loader_signs_fd = 4;

}  // namespace bitnet::actors
