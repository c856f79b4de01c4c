#include "actors/engine_process/loader.hpp"

#ifdef BITNET_HAVE_CUDA
#include "engine/cuda/cuda_device.hpp"
#endif

#include <cstdio>
#include <exception>
#include <memory>
#include <string>

namespace {

using opened_device = bitnet::engine::result<std::shared_ptr<bitnet::engine::compute_device>>;

opened_device open_device(const std::string& name) {
#ifdef BITNET_HAVE_CUDA
  return bitnet::engine::cuda::open_device(name);
#else
  return bitnet::engine::fail(bitnet::engine::error_code::internal,
                              "This bitnet-worker was built without CUDA and cannot use " + name +
                                  "; name the one that was built with the server in engine.worker-binary.");
#endif
}

}  // namespace

/// Started by bitnet-server, which says everything else through the socket.
int main() {
  try {
    return bitnet::actors::run_loader(bitnet::actors::loader_control_fd, open_device);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "bitnet-worker: %s\n", problem.what());
    return 1;
  }
}
