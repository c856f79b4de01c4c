#pragma once

#include "engine/forward_pass.hpp"
#include "engine/token_matrix.hpp"
#include "engine/weights.hpp"
#include "kernels/head_screen.hpp"
#include "kernels/matmul.hpp"
#include "kernels/team.hpp"
#include "kernels/vector.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace bitnet::engine {

/// The end of a forward pass on this CPU: from hidden vectors to logits, for the tokens that want them. Some
/// tokens want all logits; for others, where the model has a screen, candidates do: the screen's best rows,
/// with the logits that the int8 head gives them. What a token gets does not depend on the others.
///
/// A pass calls clear, add for each token and prepare on one thread, then the steps below on every member of
/// the team, with a barrier after each.
class output_head {
 public:
  /// `weights` must outlive it. Throws std::bad_alloc.
  output_head(const model_weights& weights, const kernels::matmul_kernels& matmul,
              const kernels::vector_kernels& vector, kernels::instruction_set isa, std::size_t most_tokens,
              std::size_t members);

  void clear() noexcept;
  /// The next token: row `row` of the pass.
  /// It wants the best `candidates` logits, or all for 0.
  void add(std::size_t row, std::size_t candidates);
  /// `alone`: the pass has one row, which every member normalises for itself.
  void prepare(bool alone);

  bool empty() const noexcept { return tokens_.empty(); }
  /// Some tokens want candidates: steps 3 to 5 are needed.
  bool screens() const noexcept { return !screened_rows_.empty(); }

  /// Before the barrier that ends the layers: memory should not idle meanwhile.
  void prefetch(const kernels::team_member& member) const noexcept;

  /// Step 1: normalises and quantises this member's share. `residual` holds the rows of the pass (of a pass
  /// with one row: the member's own); sets row_failed[row] where one is not finite.
  void normalise(const kernels::team_member& member, const token_matrix& residual, std::uint8_t* row_failed);
  /// Step 2: all logits, or scores, for this member's share of the vocabulary.
  void multiply(const kernels::team_member& member);
  /// Step 3: the candidates of this member's share of the tokens.
  void select(const kernels::team_member& member);
  /// Step 4: the logits of this member's share of each token's candidates.
  void rescore(const kernels::team_member& member);
  /// Step 5: the best of this member's share of the tokens, in order.
  void rank(const kernels::team_member& member);

  /// Of the index-th token that was added, all logits; undefined where it has candidates.
  std::span<float> logits(std::size_t index) noexcept;
  /// As forward_pass::candidates.
  std::span<const candidate> candidates(std::size_t index) const noexcept;

 private:
  /// What the products read.
  struct inputs {
    token_matrix floats;  ///< normalised; [tokens, embedding_length]
    kernels::quantized_activations full;
    kernels::quantized_activations screened;  ///< the same of the tokens that are screened
    kernels::quantized_activations folded;    ///< those times the screen's factors
  };
  /// Which of the tokens of its kind a token is.
  struct slot {
    bool screened;
    std::size_t index;
  };

  void add_inputs(inputs& in, std::size_t most_tokens) const;
  void resize(inputs& in) const;
  inputs& inputs_of(const kernels::team_member& member) noexcept;
  /// Whole blocks of the head, so that those of a block lie in whole lines of the cache.
  std::size_t score_stride() const noexcept;
  std::span<std::int32_t> scores(std::size_t i) noexcept;
  std::span<std::int32_t> maxima(std::size_t i) noexcept;
  std::span<std::uint32_t> ids(std::size_t i) noexcept;

  const model_weights& weights_;
  const kernels::matmul_kernels& matmul_;
  const kernels::vector_kernels& vector_;
  const kernels::head_screen_kernels& screen_;
  const std::size_t candidates_;  ///< of a token; 0: the model has no screen
  bool alone_ = false;
  std::vector<slot> tokens_;
  std::vector<std::size_t> full_rows_;  ///< rows of the pass
  std::vector<std::size_t> screened_rows_;
  std::vector<std::size_t> wanted_;  ///< candidates of each screened token
  inputs shared_;
  std::vector<std::unique_ptr<inputs>> own_;            ///< one a member, for passes with one row
  token_matrix logits_;                                 ///< [tokens that want all, vocabulary_size]
  kernels::weight_buffer scores_;                       ///< [screened tokens, score_stride()]
  std::vector<std::int32_t> maxima_;                    ///< [screened tokens, groups of 32 scores]
  std::vector<std::uint32_t> ids_;                      ///< [screened tokens, candidates]
  std::vector<float> candidate_logits_;                 ///< the same
  std::vector<candidate> ranked_;                       ///< the same, of each token the best wanted_ in order
  std::vector<kernels::candidate_selector> selectors_;  ///< one a member
};

}  // namespace bitnet::engine
