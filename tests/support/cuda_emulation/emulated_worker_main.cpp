#include "actors/engine_process/loader.hpp"
#include "engine/cuda/cuda_device.hpp"

/// bitnet-worker on a machine whose GPU is emulated: what it does in its processes is what it does with a
/// real one.
int main() {
  return bitnet::actors::run_loader(bitnet::actors::loader_control_fd, bitnet::engine::cuda::open_device);
}
