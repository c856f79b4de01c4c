#pragma once

#include "actors/error.hpp"

#include <tl/expected.hpp>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet::actors {

/// A client's words as they may stand in a message and in a line of the log: the first 200 bytes of them,
/// control characters replaced.
std::string printable(std::string_view text);

/// Where model files that clients name may lie.
class model_directories {
 public:
  model_directories() = default;

  /// Looks each one up, so that links in their names are followed once. Fails with a sentence where one is no
  /// absolute path of a directory that can be read.
  static tl::expected<model_directories, std::string> open(const std::vector<std::string>& paths);

  bool empty() const noexcept { return roots_.empty(); }

  /// The file that a client means: an absolute path, or a name in one of the directories (the first that has
  /// it). Dots and links are followed first, and only what then lies in a directory or below counts: of a
  /// file elsewhere nothing is told, not even whether it exists. Must be a regular file that can be read: a
  /// pipe or a device is never opened. Asks the file system, which may block.
  tl::expected<std::filesystem::path, failure> resolve(std::string_view name) const;

 private:
  std::vector<std::filesystem::path> roots_;  ///< canonical
};

}  // namespace bitnet::actors
