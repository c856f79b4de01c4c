#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

namespace bitnet::tests {

/// A file without a disk, for tests that open thousands.
class memory_file {
 public:
  explicit memory_file(std::string_view bytes) : descriptor_(::memfd_create("test", MFD_CLOEXEC)) {
    if (descriptor_ < 0) throw std::runtime_error("cannot create a memory file");
    while (!bytes.empty()) {
      const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
      if (written <= 0) throw std::runtime_error("cannot fill a memory file");
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
  }
  ~memory_file() { ::close(descriptor_); }
  memory_file(const memory_file&) = delete;
  memory_file& operator=(const memory_file&) = delete;

  /// Can be opened while this object lives.
  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

  void truncate(std::size_t size) {
    if (::ftruncate(descriptor_, static_cast<off_t>(size)) != 0) throw std::runtime_error("cannot truncate");
  }

 private:
  int descriptor_;
};

}  // namespace bitnet::tests
