#include "actors/engine_process/loader.hpp"
#include "engine/cuda/cuda_device.hpp"

#include <cuda_runtime.h>

/// bitnet-worker on a machine whose two GPUs are emulated: what it does in its processes is what it does with
/// real ones.
int main() {
  cuda_emulation::injected().device_count = 2;
  return bitnet::actors::run_loader(bitnet::actors::loader_control_fd, bitnet::engine::cuda::open_device);
}
