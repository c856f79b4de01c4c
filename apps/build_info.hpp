#pragma once

#include <string_view>

namespace bitnet::apps {

/// Facts about this binary, generated at build time (cmake/BuildInfo.cmake). "unknown" outside a git
/// checkout.
struct build_info {
  std::string_view version;
  std::string_view git_sha;  ///< with "-dirty" where the checkout had uncommitted changes
  std::string_view git_branch;
  std::string_view built_at;      ///< RFC 3339, UTC
  std::string_view compiler;      ///< for example "GNU 12.2.0"
  std::string_view target;        ///< the compiler's target triple
  std::string_view profile;       ///< CMake build type
  std::string_view cuda_version;  ///< empty without CUDA
};

const build_info& this_build() noexcept;

}  // namespace bitnet::apps
