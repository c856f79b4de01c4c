#pragma once

#include "actors/descriptor.hpp"
#include "engine/progress.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>

namespace bitnet::actors {

/// What an engine process shows of itself, for a watchdog that must see it when it answers nothing. In memory
/// that both map; one process writes each field (`progress.cancel`: the server), all relaxed.
struct engine_signs {
  /// CLOCK_MONOTONIC. The engine's main thread sets it at least every `sign_interval`, whatever it does, but
  /// not within a step: there `progress.last_progress_ns` moves.
  std::atomic<std::int64_t> heartbeat_ns{0};
  engine::progress progress;

  /// As of the last heartbeat: an engine that has nothing to tell sends no frames.
  std::atomic<std::uint64_t> kv_blocks_used{0};
  /// inference_engine::cpu_wait, a quarter of a second old at most while it computes.
  std::atomic<std::int64_t> cpu_wait_ns{0};

  std::atomic<std::uint64_t> scrub_rounds{0};  ///< all weights checked so often
  static constexpr std::size_t region_bytes = 96;
  char corrupted_region[region_bytes] = {};  ///< written before `corrupted`, terminated by 0
  std::atomic<bool> corrupted{false};        ///< weights changed in memory; release
};

/// What a loader process shows.
struct loader_signs {
  std::atomic<float> load_progress{0};  ///< [0, 1]
  /// Grows at least once a second while the loader waits for commands.
  std::atomic<std::uint64_t> beats{0};
  std::atomic<bool> busy{true};  ///< with a command, or not begun yet: whoever sent it has a time limit
};

/// Anonymous memory of fixed size that can be handed to another process as a descriptor. It cannot be
/// truncated, so that no process can make another one's access fail.
class shared_pages {
 public:
  /// Zeroed. Nothing where the system refuses.
  static std::optional<shared_pages> create(std::size_t bytes);
  /// Maps what another process created; takes the descriptor. Nothing where it is too small or can shrink.
  static std::optional<shared_pages> open(descriptor memory, std::size_t bytes);

  void* data() const noexcept { return data_.get(); }
  int file() const noexcept { return file_.get(); }

 private:
  struct unmap {
    std::size_t bytes;
    void operator()(void* p) const noexcept;
  };
  shared_pages(descriptor file, void* data, std::size_t bytes)
      : file_(std::move(file)), data_(data, unmap{bytes}) {}
  static std::optional<shared_pages> map(descriptor file, std::size_t bytes);

  descriptor file_;
  std::unique_ptr<void, unmap> data_;
};

/// One T in shared memory.
template <class T>
class shared_object {
  static_assert(std::is_trivially_destructible_v<T> && std::is_standard_layout_v<T>);

 public:
  static std::optional<shared_object> create() {
    auto pages = shared_pages::create(sizeof(T));
    if (!pages) return std::nullopt;
    new (pages->data()) T;
    return shared_object(std::move(*pages));
  }
  static std::optional<shared_object> open(descriptor memory) {
    auto pages = shared_pages::open(std::move(memory), sizeof(T));
    if (!pages) return std::nullopt;
    return shared_object(std::move(*pages));
  }

  T& operator*() const noexcept { return *std::launder(static_cast<T*>(pages_.data())); }
  T* operator->() const noexcept { return &**this; }
  int file() const noexcept { return pages_.file(); }

 private:
  explicit shared_object(shared_pages pages) : pages_(std::move(pages)) {}
  shared_pages pages_;
};

static_assert(std::atomic<std::int64_t>::is_always_lock_free && std::atomic<float>::is_always_lock_free &&
              std::atomic<engine::phase>::is_always_lock_free);

}  // namespace bitnet::actors
