#include "actors/engine_process/loader.hpp"

#include <cstdio>
#include <exception>

/// Started by bitnet-server, which says everything else through the socket.
int main() {
  try {
    return bitnet::actors::run_loader(bitnet::actors::loader_control_fd);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "bitnet-worker: %s\n", problem.what());
    return 1;
  }
}
