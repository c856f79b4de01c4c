#pragma once

#include "actors/inference_engine.hpp"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace bitnet::actors {

struct process_backend_options {
  std::filesystem::path worker_binary;  ///< bitnet-worker
  std::vector<std::string> devices;     ///< "cuda:N": an engine on each; empty: one on the CPU
  std::uint64_t scrub_bytes_per_second = std::uint64_t{64} << 20;
  fault_injection* faults = nullptr;  ///< where the loader declares its own; engines obey faults then too
};

/// Engines in processes of their own: bitnet-worker holds the weights, this process only the tokenizer, and
/// each engine is a fork of the former, also where it computes on a device. A model's process ends when it is
/// unloaded, at the latest with the last pointer to the model. See engine_process/loader.hpp and
/// process_engine.hpp. Makes this process the reaper of orphaned grandchildren.
inference_backend process_backend(process_backend_options options);

}  // namespace bitnet::actors
