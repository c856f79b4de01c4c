#pragma once

#include "engine/transformer_state.hpp"
#include "kernels/team.hpp"

#include <chrono>
#include <cstdint>

namespace bitnet::engine {

inline std::int64_t now_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// One member of the team in a pass: which tokens are its own, what it multiplies, and where it waits for the
/// others.
///
/// Steps that go token by token are split over the tokens; with a single token each member does them all on
/// buffers of its own, which is cheaper than a barrier. Products are split over tokens where there are enough
/// for everybody, so that what a member computes stays in its cache and it waits for the others only around
/// attention; otherwise over row blocks.
struct pass_member {
  pass_member(transformer_state& of, kernels::team_member& in)
      : state(of),
        team(in),
        config(state.weights.config),
        alone(state.rows.size() == 1),
        tokens(alone ? *state.own[team.index()] : state.shared),
        by_tokens(state.by_tokens),
        rows(state.rows_of(team.index())),
        lap_start_(now_ns()) {}

  /// The tokens that this member multiplies.
  kernels::work_range product_rows() const noexcept {
    return by_tokens ? rows : kernels::work_range{0, state.rows.size()};
  }

  /// This member's share of the row blocks of a product with its tokens.
  kernels::work_range share(std::size_t blocks) const noexcept {
    return by_tokens ? kernels::work_range{0, blocks} : team.share(blocks);
  }

  void barrier(operation op) {
    team.barrier();
    lap(op);
  }

  /// Ends a step that went token by token.
  void tokens_done(operation op) {
    if (!alone && !by_tokens) team.barrier();
    lap(op);
  }

  /// Ends a product whose results go to steps token by token.
  void product_done(operation op) {
    if (!by_tokens) team.barrier();
    lap(op);
  }

  void lap(operation op) {
    if (state.profile == nullptr || team.index() != 0) return;
    const auto now = now_ns();
    state.profile->seconds[static_cast<std::size_t>(op)] += 1e-9 * static_cast<double>(now - lap_start_);
    lap_start_ = now;
  }

  transformer_state& state;
  kernels::team_member& team;
  const model_config& config;
  const bool alone;  ///< one token: every member has its own token buffers
  token_buffers& tokens;
  const bool by_tokens;            ///< products are split over tokens
  const kernels::work_range rows;  ///< this member's own tokens

 private:
  std::int64_t lap_start_;
};

}  // namespace bitnet::engine
