#pragma once

#include "engine/error.hpp"
#include "engine/generation.hpp"
#include "engine/model.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace bitnet::actors {

/// What a worker drives: engine::generation_loop in production, fakes in tests, other devices later. Same
/// contracts as generation_loop. Owned by one thread; only `progress` may be called from others.
class inference_engine {
 public:
  virtual ~inference_engine() = default;

  virtual engine::result<void> submit(engine::generation_request request) = 0;
  virtual void cancel(engine::request_id id) = 0;
  virtual std::vector<engine::generation_event> step() = 0;
  virtual bool idle() const noexcept = 0;
  virtual engine::generation_stats stats() const noexcept = 0;
  virtual engine::progress& progress() noexcept = 0;
  virtual engine::result<std::uint64_t> probe_hash() = 0;
};

/// Checks about `max_bytes` more of a model's weights against what they were after loading; round and round.
/// Returns the name of a region that changed. One thread at a time.
using weight_scrub = std::function<std::optional<std::string>(std::size_t max_bytes)>;

/// How models and engines come into being.
struct inference_backend {
  /// Blocks for seconds; called on a thread of its own. Must call options.progress.
  std::function<engine::result<std::shared_ptr<const engine::model>>(const std::filesystem::path&,
                                                                     const engine::load_options&)>
      load_model;
  /// Blocks while it allocates; called on the worker's thread.
  std::function<engine::result<std::unique_ptr<inference_engine>>(std::shared_ptr<const engine::model>,
                                                                  const engine::generation_options&)>
      create_engine;
  /// Reads all weights once; called on the loading thread. Empty: weights are not scrubbed.
  std::function<weight_scrub(std::shared_ptr<const engine::model>)> make_scrub;
};

/// engine::load_model, engine::generation_loop and engine::weight_scrubber.
inference_backend cpu_backend();

}  // namespace bitnet::actors
