#pragma once

#include <atomic>
#include <cstdint>

namespace bitnet::engine {

enum class phase : std::uint8_t { idle, prefill, decode };

/// Where a forward pass is, for whoever must see a hang from outside: a few relaxed stores a layer, read by
/// other threads or, in shared memory, by other processes. `now_ns` values are CLOCK_MONOTONIC.
struct progress {
  std::atomic<phase> current{phase::idle};
  std::atomic<std::uint32_t> layer{0};
  std::atomic<std::uint64_t> step{0};  ///< forward passes begun
  std::atomic<std::uint64_t> delivered_tokens{
      0};  ///< tokens sampled and handed out: what a livelock does not move
  std::atomic<std::int64_t> step_started_ns{0};
  std::atomic<std::int64_t> last_progress_ns{0};  ///< moves at every layer and chunk
  std::atomic<bool> cancel{false};                ///< set from outside: give up at the next layer
};

}  // namespace bitnet::engine
