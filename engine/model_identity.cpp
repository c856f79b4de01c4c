#include "engine/model_identity.hpp"

#include "engine/gguf.hpp"
#include "engine/weights.hpp"

#include <fmt/format.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <utility>

namespace bitnet::engine {

file_identity identity_from(const struct stat& status) noexcept {
  file_identity identity;
  identity.device = status.st_dev;
  identity.inode = status.st_ino;
  identity.size_bytes = static_cast<std::uint64_t>(status.st_size);
  identity.modified_ns = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  return identity;
}

result<file_identity> identify_file(const std::filesystem::path& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) {
    return fail(error_code::file_not_found, fmt::format("cannot find the model file {}: {}",
                                                        in_quotes(path.native()), ::strerror(errno)));
  }
  return identity_from(status);
}

std::string_view to_string(file_change change) noexcept {
  switch (change) {
    case file_change::none:
      return "none";
    case file_change::missing:
      return "missing";
    case file_change::replaced:
      return "replaced";
    case file_change::truncated:
      return "truncated";
    case file_change::modified:
      return "modified";
  }
  return "unknown";
}

file_change detect_change(const std::filesystem::path& path, const file_identity& loaded) {
  const auto now = identify_file(path);
  if (!now) return file_change::missing;
  if (now->device != loaded.device || now->inode != loaded.inode) return file_change::replaced;
  if (now->size_bytes < loaded.size_bytes) return file_change::truncated;
  return *now == loaded ? file_change::none : file_change::modified;
}

namespace {

class region_list {
 public:
  void add(std::string name, const std::vector<float>& values) {
    if (!values.empty()) regions_.push_back({std::move(name), std::as_bytes(std::span(values))});
  }
  void add(std::string name, const kernels::ternary_matrix& matrix) {
    regions_.push_back({std::move(name), matrix.bytes(), std::bit_cast<std::uint32_t>(matrix.scale()), true});
  }
  void add(std::string name, const kernels::base3_matrix& matrix) {
    regions_.push_back({std::move(name), matrix.bytes(), std::bit_cast<std::uint32_t>(matrix.scale()), true});
  }
  /// `bytes` of a weight_buffer.
  void add(std::string name, std::span<const std::byte> bytes) {
    if (!bytes.empty()) regions_.push_back({std::move(name), bytes, 0, true});
  }
  void add(std::string name, std::span<const float> values) {
    regions_.push_back({std::move(name), std::as_bytes(values)});
  }
  std::vector<weight_region> take() { return std::move(regions_); }

 private:
  std::vector<weight_region> regions_;
};

/// XXH3 of a region that may be fed in slices.
class region_hash {
 public:
  region_hash() : state_(XXH3_createState()) {
    if (state_ == nullptr) throw std::bad_alloc();
  }
  ~region_hash() { XXH3_freeState(state_); }
  region_hash(const region_hash&) = delete;
  region_hash& operator=(const region_hash&) = delete;

  void begin(const weight_region& region) noexcept { XXH3_64bits_reset_withSeed(state_, region.scale_bits); }
  void add(std::span<const std::byte> bytes) noexcept {
    XXH3_64bits_update(state_, bytes.data(), bytes.size());
  }
  std::uint64_t finish() noexcept { return XXH3_64bits_digest(state_); }

 private:
  XXH3_state_t* state_;
};

}  // namespace

std::vector<weight_region> weight_regions(const model_weights& weights) {
  region_list list;
  if (weights.embedding) list.add("token_embd.weight", weights.embedding->bytes());
  list.add("output.weight", weights.head.bytes());
  if (weights.head.row_scales() != nullptr)
    list.add("output.weight (scales)", std::span(weights.head.row_scales(), weights.head.rows()));
  if (weights.screen) {
    list.add("output.weight (screen)", weights.screen->code_bytes());
    list.add("output.weight (rows)", weights.screen->int8_row_bytes());
    list.add("output.weight (screen factors)", weights.screen->factors());
  }
  list.add("output_norm.weight", weights.output_norm);
  for (std::size_t b = 0; b < weights.blocks.size(); ++b) {
    const block_weights& block = weights.blocks[b];
    const auto name = [b](std::string_view part) { return fmt::format("blk.{}.{}.weight", b, part); };
    list.add(name("attn_norm"), block.attn_norm);
    list.add(name("attn_q"), block.attn_q);
    list.add(name("attn_k"), block.attn_k);
    list.add(name("attn_v"), block.attn_v);
    list.add(name("attn_sub_norm"), block.attn_sub_norm);
    list.add(name("attn_output"), block.attn_output);
    list.add(name("ffn_norm"), block.ffn_norm);
    list.add(name("ffn_gate"), block.ffn_gate);
    list.add(name("ffn_up"), block.ffn_up);
    list.add(name("ffn_sub_norm"), block.ffn_sub_norm);
    list.add(name("ffn_down"), block.ffn_down);
  }
  for (std::size_t b = 0; b < weights.decode_blocks.size(); ++b) {
    const decode_block& block = weights.decode_blocks[b];
    const auto name = [b](std::string_view part) {
      return fmt::format("blk.{}.{}.weight (decode)", b, part);
    };
    list.add(name("attn_q"), block.attn_q);
    list.add(name("attn_k"), block.attn_k);
    list.add(name("attn_v"), block.attn_v);
    list.add(name("attn_output"), block.attn_output);
    list.add(name("ffn_gate"), block.ffn_gate);
    list.add(name("ffn_up"), block.ffn_up);
    list.add(name("ffn_down"), block.ffn_down);
  }
  return list.take();
}

std::uint64_t checksum(const weight_region& region) noexcept {
  return XXH3_64bits_withSeed(region.bytes.data(), region.bytes.size(), region.scale_bits);
}

struct weight_scrubber::state {
  const model_weights& weights;
  std::vector<weight_region> regions;
  std::vector<std::uint64_t> expected;
  region_hash hash;
  std::size_t region = 0;
  std::size_t offset = 0;  ///< in that region; 0: not begun
  std::uint64_t rounds = 0;
  std::uint64_t total = 0;
};

weight_scrubber::weight_scrubber(const model_weights& weights)
    : state_(new state{weights, weight_regions(weights), {}, {}, 0, 0, 0, 0}) {
  for (const weight_region& region : state_->regions) {
    state_->expected.push_back(checksum(region));
    state_->total += region.bytes.size();
  }
}

weight_scrubber::~weight_scrubber() = default;
weight_scrubber::weight_scrubber(weight_scrubber&&) noexcept = default;
weight_scrubber& weight_scrubber::operator=(weight_scrubber&&) noexcept = default;

std::optional<std::string> weight_scrubber::step(std::size_t max_bytes) {
  state& s = *state_;
  std::size_t left = std::max<std::size_t>(max_bytes, 1);
  while (left > 0 && !s.regions.empty()) {
    const weight_region& region = s.regions[s.region];
    if (s.offset == 0) s.hash.begin(region);
    const auto slice = region.bytes.subspan(s.offset, std::min(left, region.bytes.size() - s.offset));
    s.hash.add(slice);
    s.offset += slice.size();
    left -= slice.size();
    if (s.offset < region.bytes.size()) return std::nullopt;

    const bool sound = s.hash.finish() == s.expected[s.region];
    const std::string name = region.name;
    s.offset = 0;
    if (++s.region == s.regions.size()) {
      s.region = 0;
      ++s.rounds;
      // A scale lies outside the regions' bytes: look it up again for the next round.
      s.regions = weight_regions(s.weights);
      if (sound) return std::nullopt;
    }
    if (!sound) return name;
  }
  return std::nullopt;
}

std::uint64_t weight_scrubber::completed_rounds() const noexcept {
  return state_->rounds;
}
std::uint64_t weight_scrubber::total_bytes() const noexcept {
  return state_->total;
}

}  // namespace bitnet::engine
