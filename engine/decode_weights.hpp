#pragma once

#include "kernels/base3.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace bitnet::engine {

struct block_weights;
struct load_options;
struct model_config;

/// How the linear weights lie in memory for passes over few tokens, which memory's bandwidth limits. The
/// tokens are the same whichever it is.
enum class decode_format : std::uint8_t {
  automatic,  ///< base3 where it was measured to be faster and memory is at hand, else two_bit
  base3,      ///< a second copy with five weights a byte; two_bit where the instruction set has no product
  two_bit,    ///< the copy that every pass can use
};

/// Accepts "auto", "base3" and "2bit".
std::optional<decode_format> parse_decode_format(std::string_view name) noexcept;

/// The linear weights of one transformer block once more.
struct decode_block {
  kernels::base3_matrix attn_q;
  kernels::base3_matrix attn_k;
  kernels::base3_matrix attn_v;
  kernels::base3_matrix attn_output;
  kernels::base3_matrix ffn_gate;
  kernels::base3_matrix ffn_up;
  kernels::base3_matrix ffn_down;
};

/// Bytes that the second copy of a model of this shape takes.
std::uint64_t decode_copy_bytes(const model_config& config) noexcept;

/// The second copy as `options` ask for it, one entry a block; empty where two bits are used. Uses
/// options.threads threads, packs about 1 GB a second and thread; automatic choice times both for some
/// hundredths of a second. Throws std::bad_alloc.
std::vector<decode_block> make_decode_blocks(const model_config& config,
                                             const std::vector<block_weights>& blocks,
                                             const load_options& options);

}  // namespace bitnet::engine
