#include "engine/kv_cache.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <string>

namespace bitnet::engine {

namespace {

constexpr kv_block_id no_block = ~kv_block_id{0};

/// FNV-1a over the parent's name and the token ids; only an index, equality is checked on the tokens.
std::uint64_t hash_prefix(kv_prefix_id parent, std::span<const token_id> tokens) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  const auto mix = [&hash](std::uint64_t value) {
    hash = (hash ^ value) * 0x100000001b3ULL;
    hash ^= hash >> 29;
  };
  mix(parent);
  for (const auto token : tokens) mix(token);
  return hash;
}

double to_mib(std::size_t bytes) noexcept {
  return static_cast<double>(bytes) / (1024.0 * 1024.0);
}

}  // namespace

std::size_t kv_cache_block_bytes(const model_config& config) noexcept {
  return config.block_count * kernels::kv_block_bytes(config.kv_head_count, config.head_dim);
}

std::size_t kv_blocks_per_context(const model_config& config) noexcept {
  return (config.context_length + kernels::kv_block_tokens - 1) / kernels::kv_block_tokens;
}

result<std::size_t> plan_kv_blocks(const model_config& config, std::size_t max_sequences,
                                   std::size_t wanted_bytes, std::size_t available_bytes,
                                   std::size_t reserved, unsigned usable_percent) {
  const auto block_bytes = kv_cache_block_bytes(config);
  const auto context_blocks = kv_blocks_per_context(config);
  const auto least = context_blocks + reserved;
  const auto budget = wanted_bytes != 0 ? wanted_bytes
                                        : available_bytes / 100 * usable_percent +
                                              available_bytes % 100 * usable_percent / 100;
  const auto affordable = budget / block_bytes;
  if (affordable < least) {
    return fail(
        error_code::out_of_memory,
        fmt::format(
            "The KV cache needs {:.1f} MiB for one context of {} tokens but may use {:.1f} MiB ({}); "
            "{}.",
            to_mib(least * block_bytes), config.context_length, to_mib(budget),
            wanted_bytes != 0 ? std::string("the configured size")
                              : fmt::format("{} % of the memory available", usable_percent),
            wanted_bytes != 0 ? "configure a larger KV cache" : "free memory or run a smaller model"));
  }
  if (wanted_bytes != 0) return affordable;
  return std::min(affordable, std::max<std::size_t>(max_sequences, 1) * context_blocks + reserved);
}

result<kv_cache> kv_cache::create(const model_config& config, std::size_t block_count, kv_storage storage) {
  try {
    return kv_cache(config, block_count, storage);
  } catch (const std::bad_alloc&) {
    return fail(error_code::out_of_memory,
                fmt::format("No {:.1f} MiB of memory for a KV cache of {} blocks; configure a smaller one.",
                            to_mib(block_count * kv_cache_block_bytes(config)), block_count));
  }
}

kv_cache::kv_cache(const model_config& config, std::size_t block_count, kv_storage storage)
    : layers_(config.block_count),
      layer_bytes_(kernels::kv_block_bytes(config.kv_head_count, config.head_dim)),
      storage_(storage == kv_storage::host ? block_count * kv_cache_block_bytes(config) : 0),
      blocks_(block_count),
      first_free_(no_block),
      last_free_(no_block) {
  for (kv_block_id block = 0; block < block_count; ++block) link_free(block, false);
  index_.reserve(block_count);
}

std::optional<kv_block_id> kv_cache::allocate() {
  if (first_free_ == no_block) return std::nullopt;
  const auto block = first_free_;
  unlink_free(block);
  forget(block);
  blocks_[block].holders = 1;
  ++used_;
  return block;
}

void kv_cache::retain(kv_block_id block) noexcept {
  auto& state = blocks_[block];
  if (state.holders++ == 0) {
    unlink_free(block);
    ++used_;
  }
}

void kv_cache::release(kv_block_id block) noexcept {
  auto& state = blocks_[block];
  if (--state.holders != 0) return;
  --used_;
  link_free(block, state.prefix == 0);
}

kv_prefix_id kv_cache::publish(kv_block_id block, kv_prefix_id parent, std::span<const token_id> tokens) {
  const auto hash = hash_prefix(parent, tokens);
  if (const auto known = lookup(hash, parent, tokens)) return blocks_[*known].prefix;
  forget(block);
  auto& state = blocks_[block];
  state.hash = hash;
  state.parent = parent;
  state.prefix = ++last_prefix_;
  std::copy(tokens.begin(), tokens.end(), state.tokens.begin());
  index_.emplace(hash, block);
  return state.prefix;
}

std::optional<std::pair<kv_block_id, kv_prefix_id>> kv_cache::find(kv_prefix_id parent,
                                                                   std::span<const token_id> tokens) {
  const auto block = lookup(hash_prefix(parent, tokens), parent, tokens);
  if (!block) return std::nullopt;
  retain(*block);
  return std::pair{*block, blocks_[*block].prefix};
}

void kv_cache::forget(kv_block_id block) noexcept {
  auto& state = blocks_[block];
  if (state.prefix == 0) return;
  state.prefix = 0;
  auto [entry, last] = index_.equal_range(state.hash);
  for (; entry != last; ++entry) {
    if (entry->second == block) {
      index_.erase(entry);
      return;
    }
  }
}

std::optional<kv_block_id> kv_cache::lookup(std::uint64_t hash, kv_prefix_id parent,
                                            std::span<const token_id> tokens) const {
  auto [entry, last] = index_.equal_range(hash);
  for (; entry != last; ++entry) {
    const auto& state = blocks_[entry->second];
    if (state.parent == parent &&
        std::equal(tokens.begin(), tokens.end(), state.tokens.begin(), state.tokens.end()))
      return entry->second;
  }
  return std::nullopt;
}

void kv_cache::link_free(kv_block_id block, bool evict_first) noexcept {
  auto& state = blocks_[block];
  state.previous = evict_first ? no_block : last_free_;
  state.next = evict_first ? first_free_ : no_block;
  (state.previous == no_block ? first_free_ : blocks_[state.previous].next) = block;
  (state.next == no_block ? last_free_ : blocks_[state.next].previous) = block;
}

void kv_cache::unlink_free(kv_block_id block) noexcept {
  const auto& state = blocks_[block];
  (state.previous == no_block ? first_free_ : blocks_[state.previous].next) = state.next;
  (state.next == no_block ? last_free_ : blocks_[state.next].previous) = state.previous;
}

}  // namespace bitnet::engine
