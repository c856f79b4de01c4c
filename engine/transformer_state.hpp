#pragma once

#include "engine/output_head.hpp"
#include "engine/rope_table.hpp"
#include "engine/token_matrix.hpp"
#include "engine/transformer.hpp"
#include "kernels/matmul.hpp"
#include "kernels/vector.hpp"

#include <atomic>
#include <vector>

namespace bitnet::engine {

/// What the steps that go token by token read and write. A pass over one token gives each member a set of its
/// own: all compute the same, and nobody waits for anybody.
struct token_buffers {
  token_buffers(const model_config& config, const kernels::matmul_kernels& matmul, std::size_t rows);
  void resize(std::size_t rows);

  token_matrix residual;                        ///< [rows, embedding_length]
  kernels::quantized_activations block_input;   ///< of q, k, v, and of gate and up
  kernels::quantized_activations output_input;  ///< of attn_output
  kernels::quantized_activations down_input;    ///< of ffn_down

 private:
  const kernels::matmul_kernels& matmul_;
  std::size_t embedding_length_;
  std::size_t query_length_;
  std::size_t feed_forward_length_;
};

/// One token of the pass.
struct batch_row {
  token_id token;
  std::uint32_t chunk;
  std::size_t position;
};

/// A piece of the attention of one layer: some queries of one chunk against one KV head.
struct attention_item {
  std::uint32_t chunk;
  std::uint32_t kv_head;
  std::size_t row;       ///< of the first query in the pass
  std::size_t out_row;   ///< where its result goes; that of the next query follows
  std::size_t position;  ///< of the first query in the sequence
  std::size_t queries;
  std::size_t cost() const noexcept { return queries * (position + queries); }
};

/// All pieces of the attention of a layer: those of member 0's tokens, of member 1's and so on, each with the
/// long ones first.
struct attention_work {
  std::vector<attention_item> items;
  std::vector<std::size_t> first;  ///< of each member's pieces; behind them, how many there are
};

/// The memory of a transformer, and the pass under way.
struct transformer_state {
  transformer_state(const model_weights& w, kernels::team& t, kernels::instruction_set isa,
                    const pass_limits& most, forward_profile* p);
  /// Lays out the pass over `batch`.
  void prepare(std::span<const batch_chunk> batch);
  /// What rows have failed so far, their chunks have.
  void note_failures() noexcept;
  /// In the last layer, when keys and values are stored: goes on with the tokens that want logits alone,
  /// which are neither none nor all. By one member while the others wait.
  void keep_wanted();
  /// The tokens that are a member's in steps that go token by token.
  kernels::work_range rows_of(std::size_t member) const noexcept { return rows_of(member, rows.size()); }

  const model_weights& weights;
  kernels::team& team;
  const kernels::matmul_kernels& matmul;
  const kernels::vector_kernels& vector;
  const kernels::base3_matmul base3;  ///< null where the weights have no copy for it
  forward_profile* profile;
  rope_table rope;
  const float attention_scale;

  // The batch of the pass under way.
  std::span<const batch_chunk> chunks;
  kv_cache* cache = nullptr;
  struct progress* progress = nullptr;
  std::vector<batch_row> rows;
  std::vector<std::size_t> wanted;  ///< the rows that want logits, ascending
  bool all_wanted = false;          ///< all rows of the pass do
  attention_work attention;
  attention_work last_attention;  ///< of the last layer: wanted rows alone
  /// [layers][members], how many of a member's pieces are taken: by itself, and by those who are through.
  std::vector<std::atomic<std::size_t>> taken_items;
  std::vector<std::uint8_t> chunk_failed;
  std::vector<std::uint8_t> row_failed;
  bool few = false;        ///< the pass reads the decode copy
  bool by_tokens = false;  ///< products are split over tokens, otherwise over rows of the weights
  bool cancelled = false;  ///< written by member 0 between barriers

  // Per-token buffers: one set shared by all members, and one row for each member.
  token_buffers shared;
  std::vector<std::unique_ptr<token_buffers>> own;

  output_head head;

  // Results of products and attention, always shared: members write different columns.
  token_matrix q;         ///< [rows, query_length]
  token_matrix k;         ///< [rows, kv_length]
  token_matrix v;         ///< [rows, kv_length]
  token_matrix attended;  ///< [rows, query_length]
  token_matrix gate;      ///< [rows, feed_forward_length], activated and multiplied by `up`

  // Results that are used at once. Of one token they lie as above; with more, each member uses its share of
  // the memory again and again (forward_member::for_each_part).
  token_matrix projected;  ///< [rows, embedding_length]
  token_matrix up;         ///< [rows, feed_forward_length]
  /// Of each member: tokens between norm and quantisation, few enough to stay in the cache.
  static constexpr std::size_t normed_together = 2;
  std::vector<token_matrix> normed;                        ///< [normed_together, longest input of a product]
  std::vector<std::vector<const std::byte*>> block_lists;  ///< a member's KV blocks of one layer

 private:
  /// Of a member: with fewer, unpacking weights for them costs more than fetching results of other members.
  static constexpr std::size_t tokens_worth_splitting = 128;

  bool splits_tokens(std::size_t count) const noexcept {
    return team.size() > 1 && count >= team.size() * tokens_worth_splitting;
  }
  /// In a pass of `count` tokens.
  kernels::work_range rows_of(std::size_t member, std::size_t count) const noexcept;
  void add_attention(attention_work& work, std::uint32_t chunk, std::size_t row, std::size_t out_row,
                     std::size_t position, std::size_t queries) const;
  /// Puts pieces with so many results in order.
  void deal(attention_work& work, std::size_t count) const;
  /// For this many rows from now on.
  void resize(std::size_t count);
};

}  // namespace bitnet::engine
