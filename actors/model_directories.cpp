#include "actors/model_directories.hpp"

#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <system_error>

namespace bitnet::actors {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t longest_path = 4096;  // PATH_MAX

bool lies_in(const fs::path& file, const fs::path& root) {
  const auto [in_root, in_file] = std::mismatch(root.begin(), root.end(), file.begin(), file.end());
  return in_root == root.end() && in_file != file.end();
}

tl::unexpected<failure> no(error_code code, std::string why) {
  return tl::unexpected(failure{code, std::move(why)});
}

}  // namespace

std::string printable(std::string_view text) {
  std::string shown;
  for (const char c : text.substr(0, 200))
    shown += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return shown;
}

tl::expected<model_directories, std::string> model_directories::open(const std::vector<std::string>& paths) {
  model_directories all;
  for (const auto& path : paths) {
    std::error_code problem;
    auto root = fs::canonical(path, problem);
    if (problem)
      return tl::unexpected(fmt::format("models.directories: cannot use {}: {}", path, problem.message()));
    if (!fs::path(path).is_absolute() || !fs::is_directory(root, problem) ||
        access(root.c_str(), R_OK | X_OK) != 0)
      return tl::unexpected(fmt::format(
          "models.directories: {} must be the absolute path of a directory that this user can read", path));
    all.roots_.push_back(std::move(root));
  }
  return all;
}

tl::expected<fs::path, failure> model_directories::resolve(std::string_view name) const {
  if (name.empty() || name.size() >= longest_path || name.find('\0') != std::string_view::npos)
    return no(error_code::invalid_request, "path must name a file");
  const fs::path wanted(name);
  // The roots are canonical: with an absolute path the operator below takes that one alone.
  for (const auto& root : roots_) {
    std::error_code problem;
    const auto file = fs::canonical(root / wanted, problem);
    if (problem || !lies_in(file, root)) continue;
    if (!fs::is_regular_file(file, problem))
      return no(error_code::file_malformed, fmt::format("{} is not a regular file", printable(name)));
    if (access(file.c_str(), R_OK) != 0)
      return no(error_code::file_not_found,
                fmt::format("{} cannot be read: the server's user may not", printable(name)));
    return file;
  }
  // Missing is what would lie within the directories, as far as its name can be followed: a relative one in
  // all of them, an absolute one in one.
  const auto missing_in = [&](const fs::path& root) {
    std::error_code problem;
    const auto file = fs::weakly_canonical(root / wanted, problem);
    return !problem && lies_in(file, root) && !fs::exists(fs::symlink_status(root / wanted, problem));
  };
  const bool missing = wanted.is_absolute() ? std::any_of(roots_.begin(), roots_.end(), missing_in)
                                            : std::all_of(roots_.begin(), roots_.end(), missing_in);
  if (missing && !roots_.empty())
    return no(error_code::file_not_found, fmt::format("there is no file {}", printable(name)));
  return no(error_code::path_not_allowed,
            fmt::format("{} is not in a directory that models may come from (models.directories)",
                        printable(name)));
}

}  // namespace bitnet::actors
