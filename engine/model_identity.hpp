#pragma once

#include "engine/error.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct stat;

namespace bitnet::engine {

struct model_weights;

/// Which file, and which state of it, a model was loaded from.
struct file_identity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size_bytes = 0;
  std::int64_t modified_ns = 0;  ///< nanoseconds since 1970

  friend bool operator==(const file_identity&, const file_identity&) = default;
};

file_identity identity_from(const struct stat& status) noexcept;

/// Asks the file system (one stat call; it can block where the file system hangs).
result<file_identity> identify_file(const std::filesystem::path& path);

/// What happened to a model's path since loading. The weights in memory stay sound in all cases.
enum class file_change : std::uint8_t {
  none,
  missing,    ///< unlinked, renamed away or unreadable
  replaced,   ///< another file has the name now
  truncated,  ///< the same file, shorter
  modified,   ///< the same file, written to
};

std::string_view to_string(file_change change) noexcept;

/// Compares what was loaded with what `path` names now. Same cost as identify_file.
file_change detect_change(const std::filesystem::path& path, const file_identity& loaded);

/// Memory that holds weights, for checksums. Valid as long as the model_weights that it came from.
struct weight_region {
  std::string name;                  ///< of the tensor, as in the file
  std::span<const std::byte> bytes;  ///< as packed in memory
  std::uint64_t scale_bits = 0;      ///< of the weight scale, which lives outside `bytes`
  bool in_buffer = false;            ///< lies in a kernels::weight_buffer: its pages hold weights alone
};

/// Every region that a forward pass reads: packed matrices, norms, embedding and head.
std::vector<weight_region> weight_regions(const model_weights& weights);

/// XXH3 (64 bits) of a region, its scale included: about 10 GB/s from memory.
std::uint64_t checksum(const weight_region& region) noexcept;

/// Finds weights that changed in memory: goes round all regions in slices and compares checksums with those
/// taken at construction. Owned by one thread.
class weight_scrubber {
 public:
  /// Takes the reference checksums: reads all weights once. `weights` must outlive it.
  explicit weight_scrubber(const model_weights& weights);
  ~weight_scrubber();
  weight_scrubber(weight_scrubber&&) noexcept;
  weight_scrubber& operator=(weight_scrubber&&) noexcept;

  /// Reads about `max_bytes` more (0.1 ms a MB). Returns the name of a region that was found changed, if any.
  std::optional<std::string> step(std::size_t max_bytes);

  /// Times that all regions were found sound or reported since construction.
  std::uint64_t completed_rounds() const noexcept;
  std::uint64_t total_bytes() const noexcept;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace bitnet::engine
