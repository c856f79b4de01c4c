#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace bitnet::actors {

/// What tells one file from another behind the same path.
struct file_identity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;  ///< since the epoch

  bool operator==(const file_identity&) const = default;
};

/// Of the file behind `path` (links followed); nothing where there is none.
std::optional<file_identity> identify_file(const std::filesystem::path& path);

enum class file_change : std::uint8_t {
  none,
  replaced,   ///< another file has the name now; the mapping of the old one stays valid
  unlinked,   ///< no file has the name; likewise
  truncated,  ///< the same file is shorter: touching the lost pages is fatal
  modified,   ///< the same file was written to: what is mapped is not what was checked
};

file_change compare(const file_identity& loaded, const std::optional<file_identity>& now) noexcept;

}  // namespace bitnet::actors
