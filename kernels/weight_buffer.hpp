#pragma once

#include <cstddef>
#include <memory>
#include <utility>

namespace bitnet::kernels {

/// Memory for weights: aligned to 2 MiB, or to 64 bytes where it comes from an arena; advised to be backed by
/// huge pages, zeroed.
class weight_buffer {
 public:
  weight_buffer() = default;
  /// Throws std::bad_alloc.
  explicit weight_buffer(std::size_t bytes);
  weight_buffer(weight_buffer&&) noexcept = default;
  weight_buffer& operator=(weight_buffer&&) noexcept = default;
  weight_buffer(const weight_buffer&) = delete;
  weight_buffer& operator=(const weight_buffer&) = delete;
  ~weight_buffer() = default;

  std::byte* data() noexcept { return data_.get(); }
  const std::byte* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }

 private:
  friend class weight_arena;
  weight_buffer(std::shared_ptr<std::byte> data, std::size_t bytes) noexcept
      : data_(std::move(data)), size_(bytes) {}

  std::shared_ptr<std::byte> data_;
  std::size_t size_ = 0;
};

/// One buffer that several matrices share, side by side: matrices that are smaller than a huge page, and the
/// ends of others, get huge pages too. The memory lives as long as the arena or any buffer taken from it.
class weight_arena {
 public:
  /// Throws std::bad_alloc.
  explicit weight_arena(std::size_t bytes) : memory_(bytes) {}

  /// The next `bytes`, zeroed. Throws std::bad_alloc where less is left. Not thread-safe.
  weight_buffer take(std::size_t bytes);

 private:
  weight_buffer memory_;
  std::size_t taken_ = 0;
};

}  // namespace bitnet::kernels
