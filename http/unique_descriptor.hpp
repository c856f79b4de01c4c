#pragma once

#include <unistd.h>

#include <utility>

namespace bitnet::http {

/// Owns a file descriptor; -1: none.
class unique_descriptor {
 public:
  unique_descriptor() = default;
  explicit unique_descriptor(int descriptor) noexcept : descriptor_{descriptor} {}
  unique_descriptor(unique_descriptor&& other) noexcept : descriptor_{other.release()} {}
  unique_descriptor& operator=(unique_descriptor&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~unique_descriptor() { reset(); }

  int get() const noexcept { return descriptor_; }
  explicit operator bool() const noexcept { return descriptor_ >= 0; }
  int release() noexcept { return std::exchange(descriptor_, -1); }
  void reset(int descriptor = -1) noexcept {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = descriptor;
  }

 private:
  int descriptor_ = -1;
};

}  // namespace bitnet::http
