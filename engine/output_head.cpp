#include "engine/output_head.hpp"

#include <algorithm>
#include <cmath>

namespace bitnet::engine {

namespace {

std::size_t candidate_count(const model_weights& weights) noexcept {
  return weights.screen ? std::min<std::size_t>(weights.screen_candidates, weights.head.rows()) : 0;
}

}  // namespace

output_head::output_head(const model_weights& weights, const kernels::matmul_kernels& matmul,
                         const kernels::vector_kernels& vector, kernels::instruction_set isa,
                         std::size_t most_tokens, std::size_t members)
    : weights_(weights),
      matmul_(matmul),
      vector_(vector),
      screen_(kernels::head_screen_kernels_for(isa)),
      candidates_(candidate_count(weights)),
      logits_(most_tokens, weights.config.vocabulary_size) {
  tokens_.reserve(most_tokens);
  full_rows_.reserve(most_tokens);
  screened_rows_.reserve(most_tokens);
  wanted_.reserve(most_tokens);
  add_inputs(shared_, most_tokens);
  for (std::size_t i = 0; i < members; ++i) {
    own_.push_back(std::make_unique<inputs>());
    add_inputs(*own_.back(), 1);
  }
  if (candidates_ == 0) return;
  scores_ = kernels::weight_buffer(most_tokens * score_stride() * sizeof(std::int32_t));
  maxima_.resize(most_tokens * weights.head.block_count());
  ids_.resize(most_tokens * candidates_);
  candidate_logits_.resize(ids_.size());
  ranked_.resize(ids_.size());
  for (std::size_t i = 0; i < members; ++i) selectors_.emplace_back(weights.head.rows());
}

/// Takes the memory that a pass must not take.
void output_head::add_inputs(inputs& in, std::size_t most_tokens) const {
  const auto width = weights_.head.cols();
  in.floats = token_matrix(most_tokens, width);
  in.full.resize(most_tokens, width, matmul_.layout(most_tokens));
  if (candidates_ == 0) return;
  in.screened.resize(most_tokens, width);
  in.folded.resize(most_tokens, width, matmul_.layout(most_tokens));
}

void output_head::clear() noexcept {
  tokens_.clear();
  full_rows_.clear();
  screened_rows_.clear();
  wanted_.clear();
}

void output_head::add(std::size_t row, std::size_t candidates) {
  const bool screen = candidates != 0 && candidates_ != 0;
  if (screen) wanted_.push_back(std::min(candidates, candidates_));
  auto& rows = screen ? screened_rows_ : full_rows_;
  tokens_.push_back({screen, rows.size()});
  rows.push_back(row);
}

void output_head::prepare(bool alone) {
  alone_ = alone;
  if (!alone) return resize(shared_);
  for (auto& in : own_) resize(*in);
}

void output_head::resize(inputs& in) const {
  const auto width = weights_.head.cols();
  in.full.resize(full_rows_.size(), width, matmul_.layout(full_rows_.size()));
  if (candidates_ == 0) return;
  in.screened.resize(screened_rows_.size(), width);
  in.folded.resize(screened_rows_.size(), width, matmul_.layout(screened_rows_.size()));
}

output_head::inputs& output_head::inputs_of(const kernels::team_member& member) noexcept {
  return alone_ ? *own_[member.index()] : shared_;
}

void output_head::prefetch(const kernels::team_member& member) const noexcept {
  const auto& head = weights_.head;
  if (!alone_ || empty() || head.storage_format() != kernels::head_matrix::format::int8) return;
  const auto first = member.share(head.block_count()).first;
  if (screens())
    kernels::prefetch_blocks(weights_.screen->block(first), weights_.screen->padded_cols() * 16);
  else
    kernels::prefetch_blocks(head.int8_block(first), head.bytes().size() / head.block_count());
}

void output_head::normalise(const kernels::team_member& member, const token_matrix& residual,
                            std::uint8_t* row_failed) {
  auto& in = inputs_of(member);
  const auto mine = alone_ ? kernels::work_range{0, tokens_.size()} : member.share(tokens_.size());
  const auto check = [&](const kernels::quantized_activations& x, std::size_t i, std::size_t row) {
    if (std::isnan(x.row_scale()[i]) && (!alone_ || member.index() == 0)) row_failed[row] = 1;
  };
  for (auto t = mine.first; t < mine.last; ++t) {
    const auto [screened, i] = tokens_[t];
    const auto row = screened ? screened_rows_[i] : full_rows_[i];
    // The f16 head reads the floats of the tokens that want all logits; others only pass through here.
    auto* normed = screened ? in.floats.row(full_rows_.size() + i) : in.floats.row(i);
    vector_.rms_norm(residual.row(row), 0, weights_.output_norm.data(), weights_.config.rms_epsilon, normed,
                     0, 1, weights_.head.cols());
    if (!screened) {
      matmul_.quantize_row(normed, in.full, i);  // an f16 head needs only what it says about NaN
      check(in.full, i, row);
      continue;
    }
    matmul_.quantize_row(normed, in.screened, i);
    check(in.screened, i, row);
    // Folded after rounding: what rounding does to the logits it does to the scores as well.
    const auto factors = weights_.screen->factors();
    for (std::size_t k = 0; k < weights_.head.cols(); ++k)
      normed[k] = static_cast<float>(in.screened.at(i, k)) * factors[k];
    matmul_.quantize_row(normed, in.folded, i);
    check(in.folded, i, row);
  }
}

void output_head::multiply(const kernels::team_member& member) {
  const auto& in = inputs_of(member);
  const auto& head = weights_.head;
  const auto blocks = member.share(head.block_count());
  if (!full_rows_.empty()) {
    if (head.storage_format() == kernels::head_matrix::format::int8) {
      matmul_.head_int8(head, in.full, logits_.row(0), logits_.cols(), blocks);
    } else {
      matmul_.head_f16(head, in.floats.row(0), in.floats.cols(), full_rows_.size(), logits_.row(0),
                       logits_.cols(), blocks);
    }
  }
  if (!screens()) return;
  screen_.scores(*weights_.screen, in.folded,
                 {.scores = scores(0).data(),
                  .stride = score_stride(),
                  .maxima = maxima(0).data(),
                  .maxima_stride = head.block_count()},
                 blocks);
}

void output_head::select(const kernels::team_member& member) {
  for (auto i = member.index(); i < screened_rows_.size(); i += member.size())
    selectors_[member.index()].select(scores(i), maxima(i), ids(i));
}

void output_head::rescore(const kernels::team_member& member) {
  const auto& in = inputs_of(member);
  const auto mine = member.share(candidates_);
  for (std::size_t i = 0; i < screened_rows_.size(); ++i) {
    screen_.rescore(*weights_.screen, weights_.head.row_scales(), in.screened, i, ids(i).data() + mine.first,
                    mine.last - mine.first, candidate_logits_.data() + i * candidates_ + mine.first);
  }
}

std::span<float> output_head::logits(std::size_t index) noexcept {
  const auto [screened, i] = tokens_[index];
  return {logits_.row(screened ? 0 : i), logits_.cols()};
}

void output_head::rank(const kernels::team_member& member) {
  for (auto i = member.index(); i < screened_rows_.size(); i += member.size()) {
    const auto first = ranked_.begin() + static_cast<std::ptrdiff_t>(i * candidates_);
    for (std::size_t c = 0; c < candidates_; ++c)
      first[static_cast<std::ptrdiff_t>(c)] = {ids(i)[c], candidate_logits_[i * candidates_ + c]};
    std::partial_sort(first, first + static_cast<std::ptrdiff_t>(wanted_[i]),
                      first + static_cast<std::ptrdiff_t>(candidates_),
                      [](const candidate& a, const candidate& b) {
                        return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
                      });
  }
}

std::span<const candidate> output_head::candidates(std::size_t index) const noexcept {
  const auto [screened, i] = tokens_[index];
  if (!screened) return {};
  return {ranked_.data() + i * candidates_, wanted_[i]};
}

std::size_t output_head::score_stride() const noexcept {
  return weights_.head.block_count() * kernels::head_screen::block_rows;
}

std::span<std::int32_t> output_head::scores(std::size_t i) noexcept {
  return {reinterpret_cast<std::int32_t*>(scores_.data()) + i * score_stride(), weights_.head.rows()};
}

std::span<std::int32_t> output_head::maxima(std::size_t i) noexcept {
  const auto n = weights_.head.block_count();
  return {maxima_.data() + i * n, n};
}

std::span<std::uint32_t> output_head::ids(std::size_t i) noexcept {
  return {ids_.data() + i * candidates_, candidates_};
}

}  // namespace bitnet::engine
