#include "actors/probes/kept_files.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace bitnet::actors {

namespace {

class kept_file {
 public:
  explicit kept_file(int descriptor) noexcept : descriptor_(descriptor) {}
  ~kept_file() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  kept_file(kept_file&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  kept_file(const kept_file&) = delete;
  kept_file& operator=(const kept_file&) = delete;

  /// From the start: these files are made anew for whoever reads at offset 0.
  std::optional<std::string> read() const {
    std::string text;
    std::array<char, 4096> buffer{};
    while (true) {
      const auto got = ::pread(descriptor_, buffer.data(), buffer.size(), static_cast<off_t>(text.size()));
      if (got < 0) return std::nullopt;
      if (got == 0) return text;
      text.append(buffer.data(), static_cast<std::size_t>(got));
    }
  }

 private:
  int descriptor_;
};

}  // namespace

file_reader keep_files_open() {
  struct entry {
    kept_file file;
    std::uint64_t last_use;
  };
  struct kept {
    std::map<std::string, entry> files;
    std::uint64_t uses = 0;
  };
  return [k = std::make_shared<kept>()](const std::string& path) -> std::optional<std::string> {
    auto& files = k->files;
    auto found = files.find(path);
    if (found == files.end()) {
      const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
      if (descriptor < 0) return std::nullopt;
      if (files.size() >= max_kept_files)  // of processes that are gone, for example
        files.erase(std::min_element(files.begin(), files.end(), [](const auto& a, const auto& b) {
          return a.second.last_use < b.second.last_use;
        }));
      found = files.emplace(path, entry{kept_file(descriptor), 0}).first;
    }
    found->second.last_use = ++k->uses;
    auto text = found->second.file.read();
    if (!text) files.erase(found);
    return text;
  };
}

}  // namespace bitnet::actors
