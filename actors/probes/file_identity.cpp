#include "actors/probes/file_identity.hpp"

#include <sys/stat.h>

namespace bitnet::actors {

std::optional<file_identity> identify_file(const std::filesystem::path& path) {
  struct stat s {};
  if (stat(path.c_str(), &s) != 0) return std::nullopt;
  file_identity id;
  id.device = s.st_dev;
  id.inode = s.st_ino;
  id.size_bytes = static_cast<std::uint64_t>(s.st_size);
  id.modified_ns = std::int64_t{s.st_mtim.tv_sec} * 1'000'000'000 + s.st_mtim.tv_nsec;
  return id;
}

file_change compare(const file_identity& loaded, const std::optional<file_identity>& now) noexcept {
  if (!now) return file_change::unlinked;
  if (now->device != loaded.device || now->inode != loaded.inode) return file_change::replaced;
  if (now->size_bytes < loaded.size_bytes) return file_change::truncated;
  if (*now != loaded) return file_change::modified;
  return file_change::none;
}

}  // namespace bitnet::actors
