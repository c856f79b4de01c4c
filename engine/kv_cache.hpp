#pragma once

#include "engine/error.hpp"
#include "engine/model_config.hpp"
#include "kernels/matrix.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

namespace bitnet::engine {

/// A block holds the keys and values of kernels::kv_block_tokens positions for all layers. A sequence's block
/// table is a plain list of ids: entry b covers the positions [64 b, 64 b + 64).
using kv_block_id = std::uint32_t;

/// Names the tokens from the start of a sequence to the end of one full block. Never reused, so equal ids
/// mean equal tokens: no hash collision can hand one prompt another one's keys. 0 is the empty prefix.
using kv_prefix_id = std::uint64_t;

/// Bytes of one block: all layers' keys and values of 64 positions.
std::size_t kv_cache_block_bytes(const model_config& config) noexcept;

/// Blocks that one sequence of the model's whole context length fills.
std::size_t kv_blocks_per_context(const model_config& config) noexcept;

/// Number of blocks to create: what `wanted_bytes` holds, or, for 0, `max_sequences` whole contexts, at most
/// `usable_percent` of `available_bytes`. `reserved` blocks come on top of a context. Refuses (out_of_memory)
/// where not even one context and the reserve fit.
result<std::size_t> plan_kv_blocks(const model_config& config, std::size_t max_sequences,
                                   std::size_t wanted_bytes, std::size_t available_bytes,
                                   std::size_t reserved, unsigned usable_percent = 50);

/// Where the keys and values of the blocks are.
enum class kv_storage : std::uint8_t {
  host,    ///< in the cache
  device,  ///< in a device's own memory, under the same block ids; `data` must not be called
};

/// A pool of blocks with reference counts. Blocks that are full can be published under the tokens they stand
/// for; once nobody uses them they stay findable until their memory is needed (least recently used first).
/// Owned by one thread; the blocks' contents are the business of the forward pass.
class kv_cache {
 public:
  /// Memory is reserved here and committed by the system when a block is first written. Refuses with
  /// out_of_memory.
  static result<kv_cache> create(const model_config& config, std::size_t block_count,
                                 kv_storage storage = kv_storage::host);

  std::size_t block_count() const noexcept { return blocks_.size(); }
  /// Blocks that somebody holds. Cached blocks without a holder count as free.
  std::size_t used_blocks() const noexcept { return used_; }
  std::size_t free_blocks() const noexcept { return blocks_.size() - used_; }
  std::size_t cached_blocks() const noexcept { return index_.size(); }

  /// One block for one holder; drops the least recently used cached prefix where no other is free.
  std::optional<kv_block_id> allocate();
  /// One more holder.
  void retain(kv_block_id block) noexcept;
  /// One holder less. Release a sequence's blocks from the last to the first: a prefix must outlive what
  /// builds on it.
  void release(kv_block_id block) noexcept;

  /// Makes a full block findable as `parent` followed by `tokens` (64 of them), and names that prefix. Where
  /// an equal block is published already, that one stays and its name is returned.
  kv_prefix_id publish(kv_block_id block, kv_prefix_id parent, std::span<const token_id> tokens);
  /// The block that continues `parent` with `tokens`, held once more for the caller.
  std::optional<std::pair<kv_block_id, kv_prefix_id>> find(kv_prefix_id parent,
                                                           std::span<const token_id> tokens);
  /// Makes a block unfindable: its contents cannot be trusted.
  void forget(kv_block_id block) noexcept;

  /// Keys and values of one layer in a block, in the layout of kernels::vector_kernels.
  std::byte* data(kv_block_id block, std::size_t layer) noexcept {
    return storage_.data() + (block * layers_ + layer) * layer_bytes_;
  }
  const std::byte* data(kv_block_id block, std::size_t layer) const noexcept {
    return storage_.data() + (block * layers_ + layer) * layer_bytes_;
  }

 private:
  using block_tokens = std::array<token_id, kernels::kv_block_tokens>;

  struct block_state {
    std::uint32_t holders = 0;
    kv_block_id previous = 0;  ///< neighbours in the list of free blocks
    kv_block_id next = 0;
    std::uint64_t hash = 0;
    kv_prefix_id parent = 0;
    kv_prefix_id prefix = 0;  ///< 0: not published
    block_tokens tokens{};
  };

  kv_cache(const model_config& config, std::size_t block_count, kv_storage storage);

  std::optional<kv_block_id> lookup(std::uint64_t hash, kv_prefix_id parent,
                                    std::span<const token_id> tokens) const;
  void link_free(kv_block_id block, bool evict_first) noexcept;
  void unlink_free(kv_block_id block) noexcept;

  std::size_t layers_ = 0;
  std::size_t layer_bytes_ = 0;
  std::size_t used_ = 0;
  kv_prefix_id last_prefix_ = 0;
  kernels::weight_buffer storage_;
  std::vector<block_state> blocks_;
  kv_block_id first_free_ = 0;  ///< the next to be given out
  kv_block_id last_free_ = 0;
  std::unordered_multimap<std::uint64_t, kv_block_id> index_;  ///< hash of (parent, tokens) to block
};

}  // namespace bitnet::engine
