#include "engine/decode_weights.hpp"

#include "engine/system_memory.hpp"
#include "engine/weights.hpp"
#include "kernels/team.hpp"

#include <algorithm>
#include <chrono>
#include <deque>
#include <limits>

namespace bitnet::engine {

namespace {

using kernels::base3_matrix;
using kernels::ternary_matrix;
using steady = std::chrono::steady_clock;

/// Smaller models stay in the caches, where unpacking costs more than reading.
constexpr std::uint64_t least_bytes = std::uint64_t{64} << 20;
/// What must be left when the copy is made: it should not be what brings the machine into trouble.
constexpr std::uint64_t spare_bytes = std::uint64_t{1} << 30;
/// The copy must be worth its memory.
constexpr double least_gain = 1.05;

struct matrix_pair {
  const ternary_matrix* from;
  base3_matrix* to;
};

std::vector<matrix_pair> pairs_of(const block_weights& from, decode_block& to) {
  return {{&from.attn_q, &to.attn_q},           {&from.attn_k, &to.attn_k},     {&from.attn_v, &to.attn_v},
          {&from.attn_output, &to.attn_output}, {&from.ffn_gate, &to.ffn_gate}, {&from.ffn_up, &to.ffn_up},
          {&from.ffn_down, &to.ffn_down}};
}

std::vector<matrix_pair> pairs_of(const std::vector<block_weights>& from, std::vector<decode_block>& to) {
  std::vector<matrix_pair> all;
  for (std::size_t b = 0; b < from.size(); ++b) {
    const auto some = pairs_of(from[b], to[b]);
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

std::vector<decode_block> pack(const std::vector<block_weights>& blocks, std::uint64_t bytes,
                               kernels::team& team) {
  std::vector<decode_block> copy(blocks.size());
  kernels::weight_arena arena(bytes);
  const auto pairs = pairs_of(blocks, copy);
  for (const auto& p : pairs) *p.to = base3_matrix(*p.from, arena);
  team.run([&](kernels::team_member& member) {
    for (const auto& p : pairs) {
      const auto mine = member.share(p.to->block_count());
      for (auto b = mine.first; b < mine.last; ++b) p.to->pack_block(b, *p.from);
    }
  });
  return copy;
}

/// Times one token's products in both layouts.
class comparison {
 public:
  comparison(std::vector<matrix_pair> pairs, kernels::team& team, kernels::instruction_set isa)
      : pairs_(std::move(pairs)),
        team_(team),
        two_bit_(kernels::matmul_kernels_for(isa).ternary_matmul),
        base3_(kernels::base3_matmul_for(isa)) {
    std::size_t longest = 0;
    for (const auto& p : pairs_) {
      inputs_.emplace_back();
      inputs_.back().resize(1, p.from->cols());
      inputs_.back().row_scale()[0] = 1.0F;
      inputs_.back().row_sum()[0] = 0;
      longest = std::max(longest, p.from->rows());
    }
    outputs_.resize(longest);
  }

  /// How many times as fast base 3 is; the best of some runs each, in turn.
  double gain() {
    constexpr int rounds = 5;
    double two_bit = std::numeric_limits<double>::infinity();
    double base3 = two_bit;
    for (int i = 0; i < rounds; ++i) {
      two_bit = std::min(two_bit,
                         seconds([this](const matrix_pair& p, std::size_t n, kernels::team_member& member) {
                           two_bit_(*p.from, inputs_[n], outputs_.data(), p.from->rows(),
                                    member.share(p.from->block_count()));
                         }));
      base3 = std::min(
          base3, seconds([this](const matrix_pair& p, std::size_t n, kernels::team_member& member) {
            base3_(*p.to, inputs_[n], outputs_.data(), p.to->rows(), member.share(p.to->block_count()));
          }));
    }
    return two_bit / base3;
  }

 private:
  template <class Product>
  double seconds(const Product& product) {
    const auto start = steady::now();
    team_.run([&](kernels::team_member& member) {
      for (std::size_t n = 0; n < pairs_.size(); ++n) {
        product(pairs_[n], n, member);
        member.barrier();
      }
    });
    return std::chrono::duration<double>(steady::now() - start).count();
  }

  std::vector<matrix_pair> pairs_;
  kernels::team& team_;
  void (*two_bit_)(const ternary_matrix&, const kernels::activation_rows&, float*, std::size_t,
                   kernels::work_range);
  kernels::base3_matmul base3_;
  std::deque<kernels::quantized_activations> inputs_;
  std::vector<float> outputs_;
};

}  // namespace

std::optional<decode_format> parse_decode_format(std::string_view name) noexcept {
  if (name == "auto") return decode_format::automatic;
  if (name == "base3") return decode_format::base3;
  if (name == "2bit") return decode_format::two_bit;
  return std::nullopt;
}

std::uint64_t decode_copy_bytes(const model_config& config) noexcept {
  const std::size_t width = config.embedding_length;
  const std::size_t hidden = config.feed_forward_length;
  const std::size_t query = config.query_length();
  const std::size_t kv = config.kv_length();
  const auto bytes = base3_matrix::packed_bytes;
  return config.block_count * std::uint64_t{bytes(query, width) + 2 * bytes(kv, width) + bytes(width, query) +
                                            2 * bytes(hidden, width) + bytes(width, hidden)};
}

std::vector<decode_block> make_decode_blocks(const model_config& config,
                                             const std::vector<block_weights>& blocks,
                                             const load_options& options) {
  const auto bytes = decode_copy_bytes(config);
  const bool automatic = options.decode == decode_format::automatic;
  if (options.decode == decode_format::two_bit || kernels::base3_matmul_for(options.isa) == nullptr)
    return {};
  if (automatic) {
    if (options.isa == kernels::instruction_set::scalar || bytes < least_bytes) return {};
    if (available_memory_bytes() < bytes + spare_bytes) return {};
  }
  kernels::team team(options.threads);
  auto copy = pack(blocks, bytes, team);
  if (automatic && comparison(pairs_of(blocks, copy), team, options.isa).gain() < least_gain) return {};
  return copy;
}

}  // namespace bitnet::engine
